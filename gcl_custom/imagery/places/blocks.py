"""Which tiles belong together: squares on the ground, squares of a scene, or a whole scene.

n  tiles
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from gcl_custom.imagery.places.coordinates import Places, known
from gcl_custom.imagery.places.on_ground import squares_degrees, squares_km

LEAST_BLOCKS = 20
"""So many blocks hold tiles at least, where the side is chosen here."""
MOST_IN_ONE = 0.1
"""Largest share of the tiles that one of them then holds."""
SIDES = [step * 10.0**power for power in range(3, -4, -1) for step in (5, 2, 1)]
"""Sides to choose from, in kilometres, the longest first."""


@dataclass(frozen=True)
class Blocks:
    """Groups of tiles that stay together.

    Attributes:
        of: number of each tile's group; -1 for a tile that is in none.
        names: of the groups, the same whatever other tiles there are.
        what: what the groups are, such as "blocks of 10 km".
    """

    of: Int[np.ndarray, " n"]
    names: list[str]
    what: str

    @property
    def largest(self) -> float:
        """Share of the tiles that the largest group holds."""
        return float(self.sizes.max() / max(1, len(self.of)))

    @property
    def sizes(self) -> Int[np.ndarray, " g"]:
        return np.bincount(self.of[self.of >= 0], minlength=len(self.names))


def by_name(names: Sequence[str], what: str) -> Blocks:
    """Tiles with the same name are a group."""
    distinct = sorted(set(names))
    numbers = {name: number for number, name in enumerate(distinct)}
    return Blocks(np.array([numbers[name] for name in names], dtype=np.int64), distinct, what)


def on_ground(places: Places, side_km: float | None, side_degrees: float | None) -> Blocks:
    """Squares on the ground of a given side, or of the longest that leaves enough of them.

    A tile without a place is in none.
    """
    there = known(places)
    at = places[there]
    if side_degrees is not None:
        return _squares(there, squares_degrees(at, side_degrees), f"blocks of {side_degrees:g} degrees")
    sides = [side_km] if side_km is not None else SIDES
    return _longest(there, lambda side: squares_km(at, side), sides, lambda side: f"blocks of {length(side)}")


def in_scenes(scenes: Int[np.ndarray, " n"], centres: Num[np.ndarray, "n 2"], window: float) -> Blocks:
    """Squares of the pictures that windows are cut from, of the longest side that leaves enough of them.

    A square holds four windows at least, where windows do not overlap.

    Args:
        scenes: the number of each tile's file.
        centres: row and column of each tile's centre there, in pixels.
        window: side of a window, in pixels.
    """
    sides = [times * window for times in (64, 48, 32, 24, 16, 12, 8, 6, 5, 4, 3, 2)]
    return _longest(
        np.full(len(scenes), True),
        lambda side: np.column_stack([scenes, np.floor(centres / side)]).astype(np.int64),
        sides,
        lambda side: f"blocks of {side:g} px of a scene",
    )


def length(km: float) -> str:
    """A length in kilometres, or in metres where it is shorter than one."""
    return f"{km:g} km" if km >= 1 else f"{1000 * km:g} m"


def _longest(
    there: np.ndarray,
    cut: Callable[[float], Int[np.ndarray, "m k"]],
    sides: Sequence[float],
    title: Callable[[float], str],
) -> Blocks:
    """The blocks of the longest side that leaves enough, none too full; of the shortest where none does."""
    for side in sides:
        found = _squares(there, cut(side), title(side))
        if len(found.names) >= LEAST_BLOCKS and found.largest <= MOST_IN_ONE:
            break
    return found


def _squares(there: np.ndarray, keys: Int[np.ndarray, "m k"], what: str) -> Blocks:
    distinct, numbers = np.unique(keys, axis=0, return_inverse=True)
    of = np.full(len(there), -1, dtype=np.int64)
    of[there] = numbers.reshape(-1)
    return Blocks(of, [",".join(map(str, key)) for key in distinct.tolist()], what)
