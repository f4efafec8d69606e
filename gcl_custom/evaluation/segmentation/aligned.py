"""Crops, flips and turns of tiles together with their masks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from gcl_custom.measures.overlap import IGNORED


def moved_together(
    tiles: Float[Tensor, "b c h w"],
    masks: UInt8[Tensor, "b h w"],
    classes: int,
    move: Callable[[Float[Tensor, "b _ h w"]], Float[Tensor, "b _ s s"]],
) -> tuple[Float[Tensor, "b c s s"], UInt8[Tensor, "b s s"]]:
    """What one move of pixels makes of tiles and masks.

    Each class of a mask becomes a band of shares behind those of the tile, so that one call moves all of them. Then
    each pixel has the class of the largest share; none, if most of it had none.

    Args:
        move: crops, flips and turns pixels alike in all bands.
    """
    bands = tiles.shape[1]
    numbers = torch.where(masks == IGNORED, classes, masks.long())
    shares = rearrange(F.one_hot(numbers, classes + 1), "b h w k -> b k h w").to(tiles)
    moved = move(torch.cat([tiles, shares], dim=1))
    found = moved[:, bands:].argmax(1)
    return moved[:, :bands], torch.where(found == classes, IGNORED, found).to(torch.uint8)
