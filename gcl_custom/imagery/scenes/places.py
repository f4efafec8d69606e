"""Where windows and files lie on earth."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.warp import transform

from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.opening import driver_of, in_memory


class Place(NamedTuple):
    """Centre of a source on earth. Its tile is cut from the centre, so it has the same."""

    x: float
    y: float
    """In units of the coordinate reference system."""
    crs: str
    """EPSG:NUMBER, or WKT if the system has no number."""
    longitude: float | None
    latitude: float | None
    """In degrees (WGS 84); None if the system has no place on earth."""


def place_of(data: bytes, window: Rectangle | None = None) -> Place | None:
    """Locate the centre of a file or window by the georeference in the file's bytes; None if it has none."""
    if not driver_of(data):
        return None
    with in_memory(data) as dataset:
        ground = Ground.of(dataset)
        return places(ground, [window or (0, 0, ground.width, ground.height)])[0]


def corners(ground: Ground, windows: Sequence[Rectangle]) -> Float[np.ndarray, "n 4 2"]:
    """Longitude and latitude of the corners of windows, in order around each; NaN where they have no place on earth."""
    at = np.array(windows, dtype=float).reshape(-1, 4)
    columns = at[:, :1] + at[:, 2:3] * [0, 1, 1, 0]
    rows = at[:, 1:2] + at[:, 3:] * [0, 0, 1, 1]
    if not ground.crs:
        return np.full((len(at), 4, 2), math.nan)
    x, y = ground.at(columns, rows)
    found = np.stack(_degrees(ground, x.ravel(), y.ravel()), axis=1).reshape(-1, 4, 2)
    return np.where(np.isfinite(found), found, math.nan)


def places(ground: Ground, windows: Sequence[Rectangle]) -> list[Place | None]:
    """Locate the centres of windows; None for all if the grid lies nowhere."""
    if not ground.crs:
        return [None] * len(windows)
    corners = np.array(windows, dtype=float).reshape(-1, 4)
    columns, rows = corners[:, 0] + corners[:, 2] / 2, corners[:, 1] + corners[:, 3] / 2
    x, y = ground.at(columns, rows)
    longitudes, latitudes = _degrees(ground, x, y)
    name = ground.crs.to_string()
    found: list[Place | None] = []
    for east, north, longitude, latitude in zip(x, y, longitudes, latitudes, strict=True):
        known = math.isfinite(longitude) and math.isfinite(latitude)
        degrees = (float(longitude), float(latitude)) if known else (None, None)
        found.append(Place(float(east), float(north), name, *degrees))
    return found


def _degrees(
    ground: Ground, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Longitude and latitude of points; infinite where there are none."""
    try:
        longitudes, latitudes = transform(ground.crs, "EPSG:4326", x, y)
    except (RasterioError, CPLE_BaseError):  # a local system, such as that of a building site
        longitudes = latitudes = [math.inf] * len(x)
    return np.asarray(longitudes, dtype=float), np.asarray(latitudes, dtype=float)
