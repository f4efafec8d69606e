"""The maps that a backbone makes of a tile, in place of the one representation that it is pooled to.

    b  tiles     c  bands     d  channels of a map     h w  pixels, of a tile or of a map

Maps come from ``forward_intermediates``, which timm's networks have, also those of tokens. Which layers are taken
follows from the sides of their maps, so that a ResNet with a small stem and a vision transformer fit as well.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.backbones import Enlarged, Normalised
from gcl_custom.recipe.evaluation import PIXEL_PROBING

LEVELS = 4
"""Layers of a network of tokens, whose maps are all of one side, that a decoder sees."""


class Maps(nn.Module):
    """A backbone that gives the maps of some of its layers, in the order of the layers.

    Args:
        backbone: as ``pretraining.backbones`` builds it, also behind a normalisation or enlarged tiles.
        layers: numbers of the layers, as timm counts them; one may stand there twice.
        channels: of each map.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.layers, self.channels = backbone, list(layers), list(channels)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        wanted = sorted(set(self.layers))
        found = dict(zip(wanted, intermediates(self.backbone, tiles, wanted), strict=True))
        return [found[layer] for layer in self.layers]


def intermediates(
    backbone: nn.Module, tiles: Float[Tensor, "b c h w"], layers: Sequence[int] | None = None
) -> list[Float[Tensor, "b _ _ _"]]:
    """The maps of some layers, or of all."""
    network: Any = backbone
    while isinstance(network, Normalised | Enlarged):
        network, tiles = network.network, network.seen(tiles)
    indices = None if layers is None else list(layers)
    found: list[Tensor] = network.forward_intermediates(
        tiles, indices=indices, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return found


def of_probe(backbone: nn.Module, store: TileStore) -> Maps:
    """The maps that a linear probe sees: one of an earlier layer, and the last.

    The earlier one is the latest that is four times as large along a side. Where all are of one side, it is that of
    the layer in the middle.
    """
    sides, channels = _of_all(backbone, store)
    last = len(sides) - 1
    finer = [layer for layer, side in enumerate(sides) if side >= PIXEL_PROBING.finer * sides[last]]
    layers = [finer[-1] if finer else last // 2, last]
    return Maps(backbone, layers, [channels[layer] for layer in layers])


def of_decoder(backbone: nn.Module, store: TileStore) -> Maps:
    """The maps that a decoder sees: of each side the last, or of tokens four evenly spread."""
    sides, channels = _of_all(backbone, store)
    layers = sorted({side: layer for layer, side in enumerate(sides)}.values())
    if len(layers) == 1:
        layers = sorted({(number * len(sides)) // LEVELS - 1 for number in range(1, LEVELS + 1)} - {-1})
    return Maps(backbone, layers, [channels[layer] for layer in layers])


@torch.no_grad()
def _of_all(backbone: nn.Module, store: TileStore) -> tuple[list[int], list[int]]:
    """Side and channels of the map of each layer.

    Raises:
        UserError: timm gives no maps of this network.
    """
    modes = {part: part.training for part in backbone.modules()}
    device = next((weight.device for weight in backbone.parameters()), torch.device("cpu"))
    try:
        found = intermediates(backbone.eval(), torch.zeros(1, store.bands, store.size, store.size, device=device))
    except (AttributeError, AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"masks are scored by the maps of a backbone, and timm gives none of this one ({error}). Choose another "
            f"pretrain.backbone, such as resnet18, or leave the masks out: set data.root to the folder of the images"
        ) from None
    for part, mode in modes.items():
        part.training = mode
    return [min(one.shape[-2:]) for one in found], [one.shape[1] for one in found]
