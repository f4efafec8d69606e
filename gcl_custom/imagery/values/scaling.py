"""Which values of each band become 0 and 1: fitted once to the training tiles, or given by the recipe.

n  tiles     c  bands     h w  pixels of a tile
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Real

from gcl_custom.imagery.values.forms import READ, Form, missing
from gcl_custom.recipe.imagery import PERCENTILES, ScalingSettings

SAMPLE = 2**24
"""Number of values of each band that percentiles are taken of."""


@runtime_checkable
class PackedTiles(Protocol):
    """Tiles (n c h w), an array or what is indexed like one, by places and a band."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, wanted: tuple[Any, int], /) -> np.ndarray: ...


def edges(
    tiles: PackedTiles, slots: Sequence[int], form: Form, settings: ScalingSettings
) -> tuple[list[float], list[float]]:
    """The values of each band that become 0 and 1.

    Args:
        slots: places of the training tiles.
    """
    if settings.low is not None and settings.high is not None:
        low, high = settings.low, settings.high
        return (low if isinstance(low, list) else [low] * form.bands,
                high if isinstance(high, list) else [high] * form.bands)  # fmt: skip
    if form.dtype == "uint8" and settings.percentiles is None:
        return [0.0] * form.bands, [255.0] * form.bands
    lowest, highest = settings.percentiles or PERCENTILES
    found = [band_edges(values, lowest, highest) for values in sampled(tiles, slots)]
    return [low for low, _ in found], [high for _, high in found]


def band_edges(values: Real[np.ndarray, " m"], lowest: float, highest: float) -> tuple[float, float]:
    """Two percentiles of a band's values, apart from each other also where the band is constant or empty."""
    if not len(values):
        return 0.0, 1.0
    low, high = (float(edge) for edge in np.percentile(values, [lowest, highest]))
    if values.dtype.kind != "f":
        return low, max(high, low + 1)
    return low, high if np.float32(high) > np.float32(low) else low + max(1.0, abs(low) / 1000)


def sampled(tiles: PackedTiles, slots: Sequence[int]) -> Iterator[Real[np.ndarray, " m"]]:
    """The values of each band that hold data, of every k-th tile, so that not many more than SAMPLE are read."""
    step = -(-len(slots) * math.prod(tiles.shape[2:]) // SAMPLE)
    for band in range(tiles.shape[1]):
        values = tiles[np.array(sorted(slots)[::step], dtype=np.int64), band]
        yield values[values != missing(READ[tiles.dtype.name])]
