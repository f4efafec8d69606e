"""Places that names of files hold, such as ``-73.12,45.4.jpg``.

    n  tiles

Two forms are read: two numbers with a comma between them, and numbers behind the words lon and lat in either order.
"""

import math
import re
from collections.abc import Sequence
from posixpath import basename

import numpy as np
from jaxtyping import Float

NUMBER = r"[-+]?\d{1,3}(?:\.\d+)?"
PAIR = re.compile(rf"(?<![\d.,])({NUMBER}), ?({NUMBER})(?!\d|,|\.\d)")
"""A pair by itself: three numbers with commas are something else."""
WORDS = {axis: re.compile(rf"(?<![a-z]){axis}[a-z]*[_= ]?({NUMBER})(?!\d)") for axis in ("lon", "lat")}
NEARLY_ALL = 0.95
"""Share of the names from which on such numbers are taken for places."""

Places = Float[np.ndarray, "n 2"]
"""Longitude and latitude of each tile, in degrees; NaN where the place is not known."""


def unknown(count: int) -> Places:
    """The places of so many tiles that have none."""
    return np.full((count, 2), math.nan)


def known(places: Places) -> np.ndarray:
    """Whether each tile has a place."""
    found: np.ndarray = np.isfinite(places).all(axis=1)
    return found


def places_in_names(paths: Sequence[str]) -> Places:
    """The places that the names of files hold. All are unknown unless nearly all names hold one.

    Longitude comes first. Where some second number is beyond 90 degrees and no first one is, latitude does.
    """
    found = unknown(len(paths))
    turned = []
    for number, path in enumerate(paths):
        name = basename(path)
        if pair := _by_words(name):
            found[number] = pair
        elif pair := _pair(name):
            found[number] = pair
            turned.append(number)
    if not len(paths) or known(found).mean() < NEARLY_ALL:
        return unknown(len(paths))
    pairs = found[turned]
    if len(pairs) and (np.abs(pairs[:, 1]) > 90).any() and (np.abs(pairs[:, 0]) <= 90).all():
        found[turned] = pairs[:, ::-1]
    beyond = (np.abs(found[:, 0]) > 180) | (np.abs(found[:, 1]) > 90)
    found[beyond] = math.nan
    return found if known(found).mean() >= NEARLY_ALL else unknown(len(paths))


def _by_words(name: str) -> tuple[float, float] | None:
    longitude, latitude = (pattern.search(name.lower()) for pattern in WORDS.values())
    return (float(longitude[1]), float(latitude[1])) if longitude and latitude else None


def _pair(name: str) -> tuple[float, float] | None:
    """Two numbers of which one at least has a decimal point: 3,4 is more likely a row and a column."""
    pairs = [pair for pair in PAIR.findall(name) if "." in pair[0] + pair[1]]
    return (float(pairs[0][0]), float(pairs[0][1])) if len(pairs) == 1 else None
