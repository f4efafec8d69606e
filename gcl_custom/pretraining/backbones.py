"""Backbones: a timm name becomes a network without a head, for any number of bands and any tile size."""

import difflib
import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models.resnet import ResNet
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.small_maps import SmallDepthwiseConv2d, SmallMapConv2d
from gcl_custom.resizing import resized
from gcl_custom.slow_in_bf16 import avoid_slow_kernels

ANY_SIZE = ("dynamic_img_size", "dynamic_img_pad")
"""Options of timm's transformers: interpolate position embeddings to the input, and pad it to whole tokens."""
_CHOSEN = "options_of_timm"
"""Attribute of a network in which ``build`` keeps the options that it gave to timm."""
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
        representations: Tensor = self.network(self.seen(tiles))
        return representations

    def seen(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """What the network itself sees."""
        return (tiles - self.mean) / self.deviation


class Rescaled(nn.Module):
    """A network that has learned unit tiles made of other values: tiles are first given the numbers that it knows.

    What lies outside the values of either side is cut off.

    Args:
        here: lowest and highest stored value of each band, which become 0 and 1 in the tiles that are given.
        there: those of the tiles that the network has learned.
    """

    scale: Float[Tensor, "c 1 1"]
    shift: Float[Tensor, "c 1 1"]

    def __init__(
        self,
        network: nn.Module,
        here: tuple[Float[Tensor, " c"], Float[Tensor, " c"]],
        there: tuple[Float[Tensor, " c"], Float[Tensor, " c"]],
    ) -> None:
        super().__init__()
        self.network = network
        ranges = [high - low for low, high in (here, there)]
        self.register_buffer("scale", (ranges[0] / ranges[1])[:, None, None], persistent=False)
        self.register_buffer("shift", ((here[0] - there[0]) / ranges[1])[:, None, None], persistent=False)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        representations: Tensor = self.network((tiles * self.scale + self.shift).clamp(0, 1))
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
        representations: Tensor = self.network(self.seen(tiles))
        return representations

    def seen(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        """What the network itself sees."""
        return resized(tiles, self.side).contiguous(memory_format=torch.channels_last)


def within(network: nn.Module) -> nn.Module:
    """timm's own network, without the normalisation in front of it."""
    return network.network if isinstance(network, Normalised) else network


def build(
    name: str, bands: int, stem: str = "standard", named_by: str = "pretrain.backbone", size: int | None = None
) -> Backbone:
    """An untrained backbone and its width, the length of a representation.

    The network maps unit tiles (b c h w) to representations (b d). Weights come from torch's global generator.

    Args:
        name: any timm name. Transformers take tiles of any size, too.
        stem: "small" removes the max-pooling of a ResNet's stem, so that maps of tiles of 64 px and less stay larger.
        named_by: the key that the name comes from, for messages.
        size: side of the tiles. A network that takes pictures of one size is built for it, if timm can; without it,
            for the size of timm's weights.

    Raises:
        UserError: timm has no such network or cannot build it for this size, or the stem is "small" and the network
            no ResNet.
    """
    require_known(name, named_by)
    network = timm.create_model(name, num_classes=0, in_chans=bands)
    if chosen := _any_size(network) or _for_size(network, bands, size):
        try:
            with warnings.catch_warnings():
                # torch's only word on a network without a token, since a patch is larger than the tile
                warnings.filterwarnings("error", "Initializing zero-element", UserWarning)
                network = timm.create_model(name, num_classes=0, in_chans=bands, **chosen)
        except (AssertionError, RuntimeError, ValueError, ZeroDivisionError, UserWarning) as error:
            raise UserError(
                f"{named_by}: timm cannot build {name} for tiles of {size} px ({error}). Choose another data.size, or "
                f"a backbone that takes any size, such as resnet18"
            ) from None
        setattr(network, _CHOSEN, chosen)
    if stem == "small":
        if not isinstance(network, ResNet):
            raise UserError(
                f"pretrain.stem: small removes the max-pooling of a ResNet's stem, but {name} is no ResNet of timm's. "
                f"Set it to standard, or choose a ResNet"
            )
        network.set_submodule("maxpool", nn.Identity())
    for module in network.modules():
        if type(module) is nn.Conv2d:
            kinds = (kind for kind in (SmallMapConv2d, SmallDepthwiseConv2d) if kind.suits(module))
            module.__class__ = next(kinds, nn.Conv2d)  # keeps its weights and their names
    avoid_slow_kernels(network)
    width: Any = network.head_hidden_size
    return network.to(memory_format=torch.channels_last), int(width)


@torch.no_grad()
def untrained(
    name: str,
    store: TileStore,
    stem: str = "standard",
    named_by: str = "pretrain.backbone",
    size: int | None = None,
) -> Backbone:
    """``build`` with initial weights under which patches are embedded as if unit tiles were standardised.

    A network that begins with patches, such as a vision transformer, would see little but the mean of unit tiles. One
    that begins with batch normalisation standardises them itself. The new weights of the embedding do to tiles what
    the initial ones do to (tiles - mean) / deviation of each band.
    """
    network, width = build(name, store.bands, stem, named_by, size or store.size)
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
    """timm's options, beside name, classes and bands, with which a network was built; mostly none."""
    chosen: dict[str, Any] = getattr(network, _CHOSEN, {})
    return dict(chosen)


def _any_size(network: nn.Module) -> dict[str, Any]:
    """The options that let a network take tiles of any size; mostly none."""
    return {option: True for option in ANY_SIZE if option in _accepted(network)}


def _for_size(network: Any, bands: int, size: int | None) -> dict[str, Any]:
    """The option that builds a network of fixed input size for tiles of another size; mostly none."""
    about = network.pretrained_cfg or {}
    if size is None or not about.get("fixed_input_size") or size == about["input_size"][-1]:
        return {}
    return {"img_size": size} if "img_size" in _accepted(network) and not _takes(network, bands, size) else {}


@torch.no_grad()
def _takes(network: nn.Module, bands: int, size: int) -> bool:
    """Whether a new network takes tiles of this size as it is: timm calls some fixed that are not, such as XCiT."""
    try:
        network.eval()(torch.zeros(1, bands, size, size))
    except (AssertionError, RuntimeError, ValueError):
        return False
    finally:
        network.train()
    return True


def _accepted(network: nn.Module) -> set[str]:
    """The arguments of a network's class, and where it passes others on, those of the class that it extends."""
    names: set[str] = set()
    for kind in type(network).__mro__:
        parameters = inspect.signature(kind).parameters if kind is not nn.Module else {}
        names |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return names
    return names
