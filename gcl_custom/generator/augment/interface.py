"""The interface of every generator: encode, augment, decode. Views, pretraining and the report use nothing else.

b  tiles     c  bands     y x  pixels
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.randomness import Randomness

Tiles = Float[Tensor, "b c y x"]


@runtime_checkable
class Generator(Protocol):
    """Encodes tiles to features, augments them, and decodes them.

    Each generator has features of its own: tokens, a latent, or a latent with a condition. All draws come from ``rng``,
    so a view is a function of (seed, number of the view, tile), whatever the batch.
    """

    device: torch.device

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The networks that it computes with."""

    def encode(self, tiles: Tiles, rng: Randomness) -> Any:
        """Tiles in [0, 1] to features."""

    def augment(self, features: Any, rng: Randomness) -> Any:
        """The generative augmentation, with a strength where one exists."""

    def decode(self, features: Any) -> Tiles:
        """Features to tiles in [0, 1]."""

    def shown(self, tiles: Tiles, features: Any, rng: Randomness) -> list[Tiles]:
        """Rows of a picture: first the tiles, last the views made from their features."""


def picture_rows(generator: Generator, tiles: Tiles, features: Any, rng: Randomness) -> list[Tiles]:
    """Tiles, their plain reconstructions, and their views."""
    return [tiles.to(generator.device), generator.decode(features), generator.decode(generator.augment(features, rng))]


def resized(tiles: Float[Tensor, "b c y x"], side: int) -> Float[Tensor, "b c {side} {side}"]:
    """Resize tiles in [0, 1] to the side that a network knows, or back; tiles of that side stay as they are.

    The filter is bicubic, which is torch's nearest to the Lanczos filter of diffusers' pipelines. Bilinear would blur
    all views of a generator with another side, and no tile. The result is clamped, since bicubic overshoots at edges,
    and antialiased, since a side may shrink.
    """
    if tiles.shape[-2:] == (side, side):
        return tiles
    return F.interpolate(tiles, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def changed(before: Any, after: Any) -> float:
    """The share of each tile's tokens that an augmentation changed, added up over tiles; 0 for other features."""
    if not isinstance(before, Tensor) or before.is_floating_point():
        return 0.0
    tokens: Int[Tensor, "b h w"] = before
    return (tokens != after).float().mean(dim=(1, 2)).sum().item()
