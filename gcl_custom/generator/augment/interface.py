"""The interface of every generator: encode, augment, decode. Views, pretraining and the report use nothing else.

b  tiles     c  bands     y x  pixels
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
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


def changed(before: Any, after: Any) -> float:
    """The share of each tile's tokens that an augmentation changed, added up over tiles; 0 for other features."""
    if not isinstance(before, Tensor) or before.is_floating_point():
        return 0.0
    tokens: Int[Tensor, "b h w"] = before
    return (tokens != after).float().mean(dim=(1, 2)).sum().item()
