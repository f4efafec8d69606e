"""Values that mean no data, it seems, though no file says so: constant at the edge of tiles, and far from all others.

c  bands     s  side of a tile     n  values of a band
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Real

from gcl_custom.counted import either
from gcl_custom.imagery.values.forms import READ, missing

LEAST = 0.01
"""Smallest share of a tile's pixels that have the value in all bands."""
FAR = 0.5
"""Of the range of a band's other values: least distance from them."""
STEPS = 10
"""Least distance of whole numbers, which may be but a few classes."""
INNER = (2, 98)
"""The percentiles that are this range. Beyond them lie single bright spots, and averages with the fill value itself,
where a tile was resized."""
SHOWN = 3
"""Most values that are told."""


def at_corners(pixels: Real[np.ndarray, "c s s"]) -> tuple[float, ...]:
    """The values that a corner of a tile has in all bands, and many other pixels have as well.

    Of uint8 there are none: a value cannot lie far from the others. Nor is what holds no data by what the file says.
    """
    if pixels.dtype == np.uint8:
        return ()
    found = set()
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        value = pixels[0, row, column]
        alike = value != missing(READ[pixels.dtype.name]) and (pixels[:, row, column] == value).all()
        if alike and float((pixels == value).all(axis=0).mean()) >= LEAST:
            found.add(float(value))
    return tuple(sorted(found))


def fill_values(corners: Sequence[tuple[float, ...]], values: Real[np.ndarray, "c n"]) -> Iterator[str]:
    """Say which values seem to mean no data, of how many tiles, and the key that says so.

    Args:
        corners: of each tile, what ``at_corners`` gives.
        values: some of each band, of all tiles; those of a pixel stand below one another.
    """
    counts = Counter(value for found in corners for value in found)
    usual = values[:, ~np.isin(values, list(counts)).any(axis=0)]
    if not counts or not usual.shape[1]:
        return
    low, high = np.percentile(usual, INNER, axis=1)
    reach = np.maximum(FAR * (high - low), 0 if values.dtype.kind == "f" else STEPS)
    far = [value for value, _ in counts.most_common() if ((value < low - reach) | (value > high + reach)).all()]
    for value in far[:SHOWN]:
        count = counts[value]
        yield (
            f"{count:,} of {len(corners):,} tiles {either(count, 'has', 'have')} the value {value:g} in all bands at a "
            f"corner and beyond, far from other values, which lie mostly at {low.min():,.5g} to {high.max():,.5g}. If "
            f"it means no data, the files do not say so; the recipe can: --set data.fill={value:g}"
        )
