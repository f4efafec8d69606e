"""Near duplicates: tiles that show the same picture in other bytes, such as saved anew, brightened or resized.

    b  tiles of a batch     c  bands     h w  pixels     n  tiles     m  other tiles

A difference hash says of each square of a coarse grid whether it is brighter than its neighbour (N. Krawetz, "Kind of
like that", 2013), here along rows and along columns. Two tiles are near duplicates if few of the 128 answers differ.

The limit was measured on all pairs of 2,400 aerial, 5,400 satellite and 3,000 other overhead tiles. Different places
differ in 17 or more, open water the least. Half of the tiles that are saved anew as JPEG of quality 50, brightened,
blurred or given noise differ in 6 or fewer; in nearly all pictures with any contrast so do 95 %. A picture that is
shifted by a sixteenth of its side is no near duplicate.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real, UInt16, UInt64
from torch import Tensor

SQUARES = 8
"""Squares along a side of which neighbours are compared; their number with their neighbours is 8 times 9."""
ANSWERS = 2 * SQUARES * SQUARES
MOST_DIFFERENT = 12
"""Most answers that differ between near duplicates."""
FLAT = 0.5
"""Share of neighbours that are exactly alike from which on a tile shows too little to be compared."""
ROUNDING = 1e-5
"""Of the brightest square: a smaller step is one of rounding."""
CHUNK = 2**21
"""Pairs that are compared at a time, so that they stay in the processor's cache."""
MANY = 2**26
"""From so many pairs on, only those are compared that share two bytes, if these are few."""
SAVING = 8
"""How many times fewer they must be: finding one costs more than comparing it."""
SHARED = [pair for part in (range(6), range(6, 11), range(11, 16)) for pair in combinations(part, 2)]
"""Two bytes of a hash, such that any two near duplicates agree in one of them at least.

Where at most 12 of 128 answers differ, at least 4 of 16 bytes agree, and two of these 4 lie in the same of three parts.
"""

Hashes = UInt64[np.ndarray, "n 2"]
Rows = Int[np.ndarray, " p"]


def difference_hashes(tiles: Real[Tensor, "b c h w"]) -> tuple[Hashes, Bool[np.ndarray, " b"]]:
    """The hash of each tile, over the mean of its bands, and whether the tile shows enough to be compared.

    Values without data count as 0; signed tiles and floats hold the lowest value of their type there.
    """
    few, more = SQUARES, SQUARES + 1
    height, width = (torch.cat([_means(side, few), _means(side, more)]) for side in tiles.shape[2:])
    # Of all bands together. Products with small matrices are several times faster than pooling.
    lowest = torch.finfo(tiles.dtype).min if tiles.is_floating_point() else -(2**15)
    rows = tiles.float().masked_fill(tiles == lowest, 0).flatten(0, 2) @ width.T.contiguous()
    grid = height @ rows.unflatten(0, tiles.shape[:3]).sum(1)
    across, down = grid[:, :few, few:].diff(dim=2), grid[:, few:, :few].diff(dim=1)
    steps = torch.cat([across.flatten(1), down.flatten(1)], dim=1).numpy()
    even = ROUNDING * np.abs(grid.numpy()).max(axis=(1, 2))[:, None]
    hashes = np.ascontiguousarray(np.packbits(steps > even, axis=1)).view(np.uint64)
    return hashes, (np.abs(steps) <= even).mean(axis=1) < FLAT


def _means(side: int, squares: int) -> Float[Tensor, "squares side"]:
    """The weight of each pixel along a side in the mean of each square; a pixel on a border counts in part to both."""
    edges = torch.linspace(0, side, squares + 1)
    pixels = torch.arange(side, dtype=torch.float32)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return covered.clamp(min=0) * (squares / side)


def near_pairs(
    hashes: Hashes,
    telling: Bool[np.ndarray, " n"],
    split: Int[np.ndarray, " n"],
    most: int = MOST_DIFFERENT,
    digests: Sequence[str] | None = None,
) -> Int[np.ndarray, "m 2"]:
    """Pairs of near duplicates in different splits, the tile with the lower number first.

    Each tile that has near duplicates there is paired with the first of them. All pairs would be far more than tiles
    where one thing is seen again and again, such as waves.

    Args:
        telling: whether a tile shows enough to be compared.
        digests: of the tiles' files; tiles with the same one are exact copies, which are not meant here.
    """
    content = None if digests is None else np.unique(digests, return_inverse=True)[1]
    first = np.full(len(hashes), len(hashes))
    members = [np.flatnonzero(telling & (split == code)) for code in np.unique(split)]
    for place, ours in enumerate(members):
        theirs = np.concatenate([np.empty(0, np.int64), *members[place + 1 :]])
        if not len(theirs):
            continue
        sides = hashes[ours], hashes[theirs]
        for mine, other in _sharing(*sides, most) or _half_alike(*sides, most):
            near = np.bitwise_count(sides[0][mine] ^ sides[1][other]).sum(axis=1) <= most
            one, two = ours[mine[near]], theirs[other[near]]
            if content is not None:
                differ = content[one] != content[two]
                one, two = one[differ], two[differ]
            np.minimum.at(first, one, two)
            np.minimum.at(first, two, one)
    tiles = np.flatnonzero(first < len(hashes))
    pairs: Int[np.ndarray, "m 2"] = np.unique(np.sort(np.stack([tiles, first[tiles]], axis=1), axis=1), axis=0)
    return pairs


def _half_alike(ours: Hashes, theirs: UInt64[np.ndarray, "m 2"], most: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs in which half of the answers are near: that rules out nearly all. Each is compared."""
    first, rows = np.ascontiguousarray(theirs[:, 0]), max(1, CHUNK // len(theirs))
    for start in range(0, len(ours), rows):
        mine, other = np.nonzero(np.bitwise_count(ours[start : start + rows, 0, None] ^ first) <= most)
        yield mine + start, other


def _sharing(ours: Hashes, theirs: UInt64[np.ndarray, "m 2"], most: int) -> Iterator[tuple[Rows, Rows]] | None:
    """Pairs that share two bytes, some of them several times; None where it is faster to compare all.

    By chance one pair in 1,900 does; of 2,400 aerial tiles one in 62.
    """
    pairs = len(ours) * len(theirs)
    if most > MOST_DIFFERENT or pairs < MANY:
        return None
    sides = [
        hashes.view(np.uint8).reshape(-1, 16).astype(np.uint16) for hashes in map(np.ascontiguousarray, (ours, theirs))
    ]
    counts = (
        np.multiply(*(np.bincount(side[:, one] << 8 | side[:, two], minlength=2**16) for side in sides)).sum()
        for one, two in SHARED
    )
    return _joined(*sides) if SAVING * sum(counts) < pairs else None


def _joined(ours: UInt16[np.ndarray, "n 16"], theirs: UInt16[np.ndarray, "m 16"]) -> Iterator[tuple[Rows, Rows]]:
    """Pairs that share two bytes of ``SHARED``."""
    for one, two in SHARED:
        mine, other = (side[:, one] << 8 | side[:, two] for side in (ours, theirs))
        order = np.argsort(other, kind="stable")
        first, last = (np.searchsorted(other[order], mine, side) for side in ("left", "right"))
        ends = np.cumsum(last - first)
        cuts = np.searchsorted(ends, np.arange(CHUNK, ends[-1] + CHUNK, CHUNK), "right")
        for start, stop in pairwise([0, *np.unique(cuts).tolist(), len(mine)]):
            many = (last - first)[start:stop]
            rows = np.repeat(np.arange(start, stop), many)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
            yield rows, order[first[rows] + within]
