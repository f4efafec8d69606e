"""Which tokens are hidden: for views at random, in the centre or around a shrunk tile; for training and decoding by the
cosine schedule; and Halton's order.

    b  tiles     h w  grid of tokens     n  tokens of a tile, h times w     c  bands     y x  pixels

A mask is True where a token is hidden. Hidden tokens are in-painted.

Out-painting shrinks a tile, lays it on a canvas of the tile's former size, and hides all tokens whose squares hold any
of the canvas (dissertation, sections 4.2-4.4). ``place`` draws the place. It is a function of its arguments alone, so
the code that lays the tile and the code that hides the tokens agree.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.randomness import Randomness


def hide(rng: Randomness, probability: float, height: int, width: int) -> Bool[Tensor, "b h w"]:
    """Hide each token with the given probability, independently: uniform over the tile (dissertation, section 5.7)."""
    return rng.uniform("hide", height, width) < probability


def centre(height: int, width: int, tiles: int, device: torch.device | None = None) -> Bool[Tensor, "b h w"]:
    """Hide all tokens but the outer ring (dissertation, sections 4.2-4.4); a grid that has no inside hides none."""
    hidden = torch.zeros(tiles, height, width, dtype=torch.bool, device=device)
    hidden[:, 1:-1, 1:-1] = True
    return hidden


def shrunk_side(size: int, share: float) -> int:
    """Side in pixels of a tile that was shrunk to a share of its side, at least 1."""
    return max(1, round(size * share))


def place(rng: Randomness, size: int, shrunk: int) -> Int[Tensor, "b 2"]:
    """Where each tile is laid: row and column of its first pixel, at one of nine places, each as likely as any other.

    They are the corners, the middles of the edges and the centre of the canvas.

    Args:
        size: side of the canvas in pixels.
        shrunk: side of the shrunk tile in pixels, at most ``size``.
    """
    third = (3 * rng.uniform("place", 2)).long()
    return third * (size - shrunk) // 2


def unlaid(rng: Randomness, probability: float) -> Bool[Tensor, " b"]:
    """Which tiles are not laid at all but left as they are, each with the given probability, independently.

    This is how we read the dissertation's "or not laid": a canvas without its tile would leave nothing to go by.
    """
    return rng.uniform("unlaid", 1)[:, 0] < probability


def lay(tiles: Float[Tensor, "b c y x"], corners: Int[Tensor, "b 2"], shrunk: int) -> Float[Tensor, "b c y x"]:
    """Shrink square tiles, antialiased, and lay each on a canvas of its former side.

    The canvas has the tile's mean in each band. Its own tokens are hidden, but the tokens at the tile's edge see it
    through the tokenizer's convolutions and norms. The mean is the single colour that differs least from the tile; grey
    beside a dark tile would be an edge.
    """
    canvas = tiles.mean(dim=(2, 3), keepdim=True).expand_as(tiles).clone()
    small = F.interpolate(tiles, size=(shrunk, shrunk), mode="bilinear", antialias=True)
    for under, tile, (row, column) in zip(canvas, small, corners.tolist(), strict=True):
        under[:, row : row + shrunk, column : column + shrunk] = tile
    return canvas


def outside(corners: Int[Tensor, "b 2"], shrunk: int, pixels_per_token: int, grid: int) -> Bool[Tensor, "b h w"]:
    """Hide every token whose square the laid tile does not cover wholly."""
    first = pixels_per_token * torch.arange(grid, device=corners.device)
    covered = (first >= corners[..., None]) & (first + pixels_per_token <= corners[..., None] + shrunk)
    rows, columns = covered.unbind(dim=1)
    return ~(rows[:, :, None] & columns[:, None, :])


def cosine(progress: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Share of tokens hidden at a progress from 0 to 1 (MaskGIT, arXiv:2202.04200, section 3.3)."""
    return torch.cos(0.5 * math.pi * progress)


def training_mask(rng: Randomness, height: int, width: int) -> Bool[Tensor, "b h w"]:
    """Hide the cosine of a uniform progress as a share of each tile, at positions drawn evenly.

    The number is rounded up, as in MaskGIT. The progress stays below 1, so at least one token is hidden.
    """
    n = height * width
    count = torch.ceil(cosine(rng.uniform("share", 1)) * n).clamp(1, n)
    rank = rng.uniform("positions", n).argsort(dim=1).argsort(dim=1)
    return rearrange(rank < count, "b (h w) -> b h w", h=height)


def still_hidden(initially: Int[Tensor, " b"], before: Int[Tensor, " b"], step: int, steps: int) -> Int[Tensor, " b"]:
    """How many tokens of each tile stay hidden after a decoding step, counted from 0.

    The cosine schedule applies to each tile's own number of hidden tokens, so tiles of one batch may differ. Each step
    decides at least one token while any are left, and the last step decides all.

    Args:
        initially: hidden before the first step.
        before: hidden before this step.
    """
    if step + 1 >= steps:
        return torch.zeros_like(initially)
    share = math.cos(0.5 * math.pi * (step + 1) / steps)
    return torch.minimum((initially * share).floor().long(), before - 1).clamp(min=0)


def halton_order(height: int, width: int) -> Int[Tensor, " n"]:
    """Positions of a grid (row times width plus column) in the order in which a Halton sequence first meets them.

    Neighbours in the order lie far apart on the grid (Halton-MaskGIT, arXiv:2503.17076). The row follows the sequence
    of base 2, the column that of base 3. The authors drop the positions that 10,000 points miss; here the sequence goes
    on until it has met them all.
    """
    points = 16 * height * width
    while True:
        index = torch.arange(1, points + 1)
        rows = (_radical_inverse(index, 2) * height).long()
        columns = (_radical_inverse(index, 3) * width).long()
        positions, inverse = torch.unique(rows * width + columns, return_inverse=True)
        if len(positions) == height * width:
            first = torch.full((len(positions),), points).scatter_reduce(0, inverse, index, "amin")
            return torch.take(positions, first.argsort())
        points *= 2


def _radical_inverse(index: Int[Tensor, " m"], base: int) -> Float[Tensor, " m"]:
    """The digits of each number in a base, mirrored at the point: 6 = 110 in base 2 becomes 0.011 = 0.375."""
    inverse, digit = torch.zeros(len(index), dtype=torch.float64), 1.0 / base
    while bool(index.any()):
        inverse += index % base * digit
        index, digit = index // base, digit / base
    return inverse
