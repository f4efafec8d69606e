"""How near test tiles lie to training tiles.

n  tiles
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gcl_custom.counted import counted
from gcl_custom.imagery.places.blocks import length
from gcl_custom.imagery.places.coordinates import Places, known
from gcl_custom.imagery.places.on_ground import nearest_km


class Nearness(NamedTuple):
    """Distances on the ground from test tiles to the nearest training tile."""

    tiles: int
    """Test tiles whose place is known."""
    median_km: float
    within: float
    """Share of them that lies within ``near_km``."""
    near_km: float

    def sentence(self) -> str:
        median = length(float(f"{self.median_km:.2g}"))
        return (
            f"Of {counted(self.tiles, 'test tile')} {self.within:.0%} lie within {length(self.near_km)} of a "
            f"training tile; the "
            f"median distance is {median}."
        )


def nearness(places: Places | None, split: Int[np.ndarray, " n"], near_km: float) -> Nearness | None:
    """The distances of a split; None where no test tile or no training tile has a known place.

    Args:
        split: 0 train, 1 valid, 2 test.
    """
    if places is None:
        return None
    there = known(places)
    train, test = places[there & (split == 0)], places[there & (split == 2)]
    if not len(train) or not len(test):
        return None
    distances = nearest_km(test, train)
    return Nearness(len(test), float(np.median(distances)), float((distances <= near_km).mean()), near_km)
