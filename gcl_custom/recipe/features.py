"""The grammar of feature networks, whose features compare pictures."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from gcl_custom.recipe.section import NamedWeights, Positive, Section, named


class FeatureNetworkSection(Section):
    """What every feature network states of itself."""

    @property
    def named_weights(self) -> list[NamedWeights]:
        """The weights that it takes from elsewhere; none for a network that a package brings along."""
        return []


class EfficientNetLite0Settings(FeatureNetworkSection):
    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weight: Positive = 0.5
    """Beside L1: more lowers the feature distance of reconstructions and their PSNR."""
    maps: Annotated[int, Field(ge=1, le=5)] = 4
    """Maps of the network that are compared, from the first on. The fifth says most of what a tile shows: with it, more
    is recognised in reconstructions, and their PSNR is lower."""


class Vgg16Settings(FeatureNetworkSection):
    name: Literal["vgg16"]
    weights: str
    """Path of torchvision's vgg16 weights (a .pth state dict) on this machine."""
    weight: Positive = 0.5
    """Weight of the feature distance beside L1."""

    @property
    def named_weights(self) -> list[NamedWeights]:
        return [NamedWeights("weights", "vgg16", self.weights, makes_views=False)]


class WithoutNetworkSettings(FeatureNetworkSection):
    """Multi-scale SSIM and gradients: needs no pretrained network and takes any number of bands."""

    name: Literal["none"]
    weight: Positive = 0.03
    """Weight of this distance beside L1."""


PerceptualSettings = Annotated[
    Annotated[EfficientNetLite0Settings, Tag("efficientnet-lite0")]
    | Annotated[Vgg16Settings, Tag("vgg16")]
    | Annotated[WithoutNetworkSettings, Tag("none")],
    named("efficientnet-lite0"),
]


def band_groups(bands: int) -> list[list[int]]:
    """The groups of three bands in which networks of colour pictures see a tile with any number of bands."""
    return [[band % bands for band in range(first, first + 3)] for first in range(0, bands, 3)]
