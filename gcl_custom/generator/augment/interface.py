"""What every generator is: encode, augment, decode. Views, pretraining and the report know nothing else of it.

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
    """Features are whatever it encodes a tile to: tokens, a latent, latents with captions.

    All draws come from ``rng``, so that a view is a function of (seed, number of the view, tile), whatever the batch.
    """

    device: torch.device

    @property
    def networks(self) -> Sequence[nn.Module]:
        """What it computes with."""

    def encode(self, tiles: Tiles, rng: Randomness) -> Any:
        """Tiles in [0, 1] to features."""

    def augment(self, features: Any, rng: Randomness) -> Any:
        """The generative augmentation, with a strength where one exists."""

    def decode(self, features: Any) -> Tiles:
        """Features to tiles in [0, 1]."""

    def shown(self, tiles: Tiles, features: Any, rng: Randomness) -> list[Tiles]:
        """Rows of a picture, the first the tiles, the last their views, which start from what was encoded of them."""


def rows(generator: Generator, tiles: Tiles, features: Any, rng: Randomness) -> list[Tiles]:
    """Tiles, what they become when they are encoded and decoded only, and views of them."""
    return [tiles.to(generator.device), generator.decode(features), generator.decode(generator.augment(features, rng))]


def resized(tiles: Float[Tensor, "b c y x"], side: int) -> Float[Tensor, "b c {side} {side}"]:
    """Tiles in [0, 1] at the side that a network knows, or back at their own; those of that side as they are.

    Bicubic: sharper than bilinear, whose blur all views of a generator with another side would share and no tile would
    have, and what torch has that is nearest to the Lanczos filter of diffusers' pipelines. Clamped, since it overshoots
    at edges; antialiased, since a side may shrink.
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
