"""Distances and squares on the ground.

    n  tiles     m  other tiles

The earth is a sphere here, which is right to half a percent.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from gcl_custom.imagery.places.coordinates import Places

EARTH_KM = 6371.0088
DEGREE_KM = math.pi * EARTH_KM / 180
"""Length of a degree of latitude."""


def directions(places: Places) -> Float[np.ndarray, "n 3"]:
    """The unit vectors from the centre of the earth."""
    longitude, latitude = np.radians(places).T
    flat = np.cos(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1)


def nearest_km(places: Places, others: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " n"]:
    """Distance from each place to the nearest of the others, along the ground."""
    chords, _ = cKDTree(directions(others)).query(directions(places))
    return 2 * EARTH_KM * np.arcsin(np.clip(chords / 2, 0, 1))


def squares_km(places: Places, side: float) -> Int[np.ndarray, "n 2"]:
    """Row and column of the square that holds each place.

    Rows are bands of ``side`` kilometres from the south pole on. Each band is cut into equal squares whose width is as
    near to ``side`` as a whole number of them allows, so that none is cut off at 180 degrees.
    """
    row = np.floor((places[:, 1] + 90) * DEGREE_KM / side).astype(np.int64)
    middle = np.radians(np.clip((row + 0.5) * side / DEGREE_KM - 90, -90, 90))
    around = np.maximum(1, np.round(2 * math.pi * EARTH_KM * np.cos(middle) / side))
    column = np.floor((places[:, 0] + 180) / 360 * around) % around
    return np.stack([row, column.astype(np.int64)], axis=1)


def squares_degrees(places: Places, side: float) -> Int[np.ndarray, "n 2"]:
    """Row and column of the square of ``side`` degrees that holds each place; 180 degrees east is 180 degrees west."""
    east = (places[:, 0] + 180) % 360
    return np.stack([np.floor((places[:, 1] + 90) / side), np.floor(east / side)], axis=1).astype(np.int64)
