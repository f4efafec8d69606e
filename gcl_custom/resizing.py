"""Tiles at the side that a network knows."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resized(tiles: Float[Tensor, "b c y x"], side: int) -> Float[Tensor, "b c {side} {side}"]:
    """Resize tiles in [0, 1] to the side that a network knows, or back; tiles of that side stay as they are.

    The filter is bicubic, which is torch's nearest to the Lanczos filter of diffusers' pipelines. Bilinear would blur
    all views of a generator with another side, and no tile. The result is clamped, since bicubic overshoots at edges,
    and antialiased, since a side may shrink.
    """
    if tiles.shape[-2:] == (side, side):
        return tiles
    return F.interpolate(tiles, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
