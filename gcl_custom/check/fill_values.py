"""Values that mean no data, it seems, though no file says so: constant at the edge of tiles, and far from all others.

c  bands     s  side of a tile     n  values of a band
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Real

from gcl_custom.counted import either
from gcl_custom.imagery.values.forms import READ, missing

LEAST = 0.01
"""Smallest share of a band's pixels of a tile that have the value."""
FAR = 0.5
"""Of the range of a band's other values: least distance from them."""
STEPS = 10
"""Least distance of whole numbers, which may be but a few classes."""
INNER = (2, 98)
"""The percentiles that are this range. Beyond them lie single bright spots, and averages with the fill value itself,
where a tile was resized."""


KNOWN = {-9999.0, -999.0, -99999.0, -32767.0, 32767.0, 65535.0}
"""What software fills with. These count in a single band, too; any other value counts where all bands have it, since
in one alone it may be a class or a share."""

Corner = tuple[int, float]
"""A band, counted from 0, and a value."""


def at_corners(pixels: Real[np.ndarray, "c s s"]) -> tuple[Corner, ...]:
    """The values that a corner of a tile has, and many other pixels of the band have as well.

    Of uint8 there are none: a value cannot lie far from the others. Nor is what holds no data by what the file says.
    """
    if pixels.dtype == np.uint8:
        return ()
    none = missing(READ[pixels.dtype.name])
    found: set[Corner] = set()
    for band, values in enumerate(pixels):
        for value in {float(values[row, column]) for row in (0, -1) for column in (0, -1)} - {none}:
            if float((values == value).mean()) >= LEAST:
                found.add((band, value))
    bands = Counter(value for _, value in found)
    return tuple(sorted(each for each in found if each[1] in KNOWN or bands[each[1]] == len(pixels)))


def fill_values(corners: Sequence[tuple[Corner, ...]], values: Real[np.ndarray, "c n"]) -> Iterator[str]:
    """Say which values seem to mean no data, of how many tiles, and the key that says so.

    Args:
        corners: of each tile, what ``at_corners`` gives.
        values: some of each band, of all tiles.
    """
    tiles = Counter(value for found in corners for value in {value for _, value in found})
    bands: dict[float, set[int]] = defaultdict(set)
    for band, value in (each for found in corners for each in found):
        bands[value].add(band)
    usual = [band[~np.isin(band, list(bands))] for band in values]
    for value, count in tiles.most_common():
        edges = [_edges(usual[band]) for band in bands[value]]
        if not edges or any(edge is None or edge[0] <= value <= edge[1] for edge in edges):
            continue
        where = "all bands" if len(bands[value]) == len(values) else f"band {', '.join(_numbers(bands[value]))}"
        yield (
            f"{count:,} of {len(corners):,} tiles {either(count, 'has', 'have')} the value {value:g} in {where}, at a "
            f"corner and beyond, far from all others. If it means no data, the files do not say so; the recipe can: "
            f"--set data.fill={value:g}"
        )


def _numbers(bands: set[int]) -> list[str]:
    return [str(band + 1) for band in sorted(bands)]


def _edges(values: Real[np.ndarray, " n"]) -> tuple[float, float] | None:
    """Between which values none is far from those of a band; None if the band has no others."""
    if not len(values):
        return None
    low, high = np.percentile(values, INNER)
    reach = max(FAR * (high - low), 0 if values.dtype.kind == "f" else STEPS)
    return float(low - reach), float(high + reach)
