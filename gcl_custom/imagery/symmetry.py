"""Flips and right-angle turns of square tiles. The recipe says which of them leave a tile's meaning unchanged."""

from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Symmetry = Literal["none", "flip", "dihedral"]
WAYS: dict[Symmetry, int] = {"none": 1, "flip": 2, "dihedral": 8}
"""Number of ways that a symmetry allows, counted from the first of the eight of ``turn``. Way 0 changes nothing."""


def ways(symmetry: Symmetry, uniform: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Turn a uniform number per tile into a way of ``turn``. All ways that the symmetry allows are equally likely."""
    return (uniform * WAYS[symmetry]).long()


def turn(tiles: Shaped[Tensor, "b c h h"], way: Int[Tensor, " b"]) -> Shaped[Tensor, "b c h h"]:
    """Flip and transpose each tile its own way: bit 1 is left-right, bit 2 top-bottom, bit 4 across the diagonal."""
    bits = (way[:, None] & torch.tensor([1, 2, 4], device=way.device)).bool()
    left_right, top_bottom, diagonal = bits[:, :, None, None, None].unbind(1)
    tiles = torch.where(left_right, tiles.flip(-1), tiles)
    tiles = torch.where(top_bottom, tiles.flip(-2), tiles)
    return torch.where(diagonal, tiles.mT, tiles)
