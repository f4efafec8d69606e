"""The grammar of feature networks, whose features compare pictures."""

from typing import Annotated, Literal

from pydantic import Tag

from gcl_custom.recipe.section import Positive, Section, named

# ---------------------------------------------------------------- feature networks


class EfficientNetLite0Settings(Section):
    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weight: Positive = 0.5
    """Beside L1: more lowers the feature distance of reconstructions and their PSNR."""


class Vgg16Settings(Section):
    name: Literal["vgg16"]
    weights: str
    """Path of torchvision's vgg16 weights (a .pth state dict) on this machine."""
    weight: Positive = 0.5
    """Weight of the feature distance beside L1."""


class WithoutNetworkSettings(Section):
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
