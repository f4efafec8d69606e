"""Backbones: a timm name becomes a network without a head, for any number of bands and any tile size."""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models.resnet import ResNet
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.small_maps import SmallMapConv2d

ANY_SIZE = ("dynamic_img_size", "dynamic_img_pad")
"""Options of timm's transformers: interpolate position embeddings to the input, and pad it to whole tokens."""
PIXELS_AT_A_TIME = 2**20
"""Of enlarged tiles, so that a batch that fits in memory at its own size does so enlarged."""
Backbone = tuple[nn.Module, int]
"""A network and its width."""


class Normalised(nn.Module):
    """A network whose tiles are standardised first, band by band. Its weights are those of the network alone."""

    mean: Float[Tensor, "c 1 1"]
    deviation: Float[Tensor, "c 1 1"]

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        representations: Tensor = self.network((tiles - self.mean) / self.deviation)
        return representations


class Enlarged(nn.Module):
    """A network whose tiles are first enlarged to a side in pixels, by bicubic interpolation."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        if self.training:
            return self._of(tiles)
        return torch.cat([self._of(some) for some in torch.split(tiles, max(1, PIXELS_AT_A_TIME // self.side**2))])

    def _of(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        # Bicubic interpolation overshoots at edges; unit tiles end at 0 and 1.
        larger = F.interpolate(tiles, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        representations: Tensor = self.network(larger.contiguous(memory_format=torch.channels_last))
        return representations


def within(network: nn.Module) -> nn.Module:
    """timm's own network, without the normalisation in front of it."""
    return network.network if isinstance(network, Normalised) else network


def build(name: str, bands: int, stem: str = "standard", named_by: str = "pretrain.backbone") -> Backbone:
    """An untrained backbone and its width, the length of a representation.

    The network maps unit tiles (b c h w) to representations (b d). Weights come from torch's global generator.

    Args:
        name: any timm name. Transformers take tiles of any size, too.
        stem: "small" removes the max-pooling of a ResNet's stem, so that maps of tiles of 64 px and less stay larger.
        named_by: the key that the name comes from, for messages.

    Raises:
        UserError: timm has no such network, or the stem is "small" and the network no ResNet.
    """
    require_known(name, named_by)
    network = timm.create_model(name, num_classes=0, in_chans=bands)
    if any_size := options(network):
        network = timm.create_model(name, num_classes=0, in_chans=bands, **any_size)
    if stem == "small":
        if not isinstance(network, ResNet):
            raise UserError(
                f"pretrain.stem: small removes the max-pooling of a ResNet's stem, but {name} is no ResNet of timm's. "
                f"Set it to standard, or choose a ResNet"
            )
        network.set_submodule("maxpool", nn.Identity())
    for module in network.modules():
        if type(module) is nn.Conv2d and SmallMapConv2d.suits(module):
            module.__class__ = SmallMapConv2d  # keeps its weights and their names
    width: Any = network.head_hidden_size
    return network.to(memory_format=torch.channels_last), int(width)


@torch.no_grad()
def untrained(name: str, store: TileStore, stem: str = "standard", named_by: str = "pretrain.backbone") -> Backbone:
    """``build`` with initial weights under which patches are embedded as if unit tiles were standardised.

    A network that begins with patches, such as a vision transformer, would see little but the mean of unit tiles. One
    that begins with batch normalisation standardises them itself. The new weights of the embedding do to tiles what
    the initial ones do to (tiles - mean) / deviation of each band.
    """
    network, width = build(name, store.bands, stem, named_by)
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first and first.bias is not None and first.in_channels == store.bands and first.kernel_size == first.stride:
        mean, deviation = (moment[:, None, None] for moment in store.moments)
        first.weight /= deviation
        first.bias -= (first.weight * mean).sum((1, 2, 3))
    return network, width


def require_known(name: str, named_by: str) -> None:
    """Check a name before anything is built.

    Raises:
        UserError: timm has no such network.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "See timm.list_models()."
        raise UserError(f"{named_by}: timm has no network {name!r}. {hint}")


def options(network: nn.Module) -> dict[str, Any]:
    """timm's options, beside name, classes and bands, that let a network take tiles of any size; mostly none."""
    accepted = inspect.signature(type(network)).parameters
    return {option: True for option in ANY_SIZE if option in accepted}
