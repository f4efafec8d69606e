"""Ground: the grid of pixels on earth that windows are cut from, and resampling onto it.

c  bands     h w  pixels of the file     y x  pixels of the grid
"""

import math
from typing import Any, NamedTuple

import numpy as np
import rasterio
from jaxtyping import Bool, Float, Shaped
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.opening import NoScene

DEGREE = 111_320.0
"""Metres in a degree of latitude, about."""
ALIKE = 1e-3
"""Two sides of a pixel that differ by less, as a share, are one."""
MARGIN = 2
"""Pixels of the file, or of the grid if larger, that are read around what a window shows: the reach of the kernel."""


class Ground(NamedTuple):
    """A grid of pixels. Without a coordinate reference system it lies nowhere."""

    crs: CRS | None
    transform: Affine
    width: int
    height: int

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> "Ground":
        """The grid of a raster's own pixels, turned or not."""
        return cls(dataset.crs, dataset.transform, dataset.width, dataset.height)

    @property
    def metres(self) -> float | None:
        """Side of a pixel on the ground, in metres, about; None if it lies nowhere."""
        if not self.crs:
            return None
        a, b, _, d, e, _ = self.transform[:6]
        if not self.crs.is_geographic:
            return math.sqrt(abs(a * e - b * d)) * (self.crs.linear_units_factor[1] if self.crs.is_projected else 1)
        _, latitude = self.at(self.width / 2, self.height / 2)
        return DEGREE * math.sqrt(abs(a * e - b * d) * abs(math.cos(math.radians(latitude))))

    def part(self, rectangle: Rectangle) -> "Ground":
        """The grid of a window."""
        column, row, width, height = rectangle
        a, b, _, d, e, _ = self.transform[:6]
        x, y = self.at(column, row)
        return Ground(self.crs, Affine(a, b, float(x), d, e, float(y)), width, height)

    def at(self, columns: Any, rows: Any) -> tuple[Any, Any]:
        """Coordinates of points, counted in pixels from the upper left corner: numbers, or arrays of one shape."""
        a, b, c, d, e, f = self.transform[:6]
        return a * columns + b * rows + c, d * columns + e * rows + f


def resampled(own: Ground, metres: float) -> Ground:
    """The grid of a scene at so many metres a pixel, north up.

    It keeps the scene's projection if that is measured in metres, and has the zone of UTM at the scene's centre
    otherwise: degrees and the metres of Web Mercator are no lengths. It is the scene's own grid if that will do.

    Raises:
        NoScene: the scene does not lie on earth.
    """
    if not own.crs:
        raise NoScene("no coordinates", "data.scenes.metres needs to know how large a pixel is: leave the key out")
    unit = own.crs.linear_units_factor[1] if own.crs.is_projected else 0
    kept = unit == 1 and own.crs.to_epsg() != 3857
    a, b, _, d, e, _ = own.transform[:6]
    if kept and b == d == 0 and e < 0 and max(abs(a - metres), abs(e + metres)) < ALIKE * metres:
        return own
    crs = own.crs if kept else _zone(own)
    x, y = moved(own.crs, crs, *border(own))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NoScene("no coordinates", "a part of the scene has no place on earth")
    corner = Affine(metres, 0, float(x.min()), 0, -metres, float(y.max()))
    sides = (max(1, math.ceil((values.max() - values.min()) / metres - ALIKE)) for values in (x, y))
    return Ground(crs, corner, *sides)


def _zone(own: Ground) -> CRS:
    """The zone of UTM at the centre, or the polar grid beyond."""
    x, y = own.at(own.width / 2, own.height / 2)
    (longitude,), (latitude,) = moved(own.crs, CRS.from_epsg(4326), [x], [y])
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise NoScene("no coordinates", "its system of coordinates has no place on earth")
    if abs(latitude) > 84:
        return CRS.from_epsg(5041 if latitude > 0 else 5042)
    return CRS.from_epsg((32600 if latitude >= 0 else 32700) + int((longitude + 180) % 360 // 6) + 1)


def border(ground: Ground, points: int = 21) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Coordinates of points along the four edges of a grid."""
    along = np.linspace(0, 1, points)
    none, all_ = np.zeros(points), np.ones(points)
    columns = np.concatenate([along, along, none, all_]) * ground.width
    rows = np.concatenate([none, all_, along, along]) * ground.height
    return ground.at(columns, rows)


def moved(source: CRS | None, target: CRS | None, x: object, y: object) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of points in another system; infinite where a point has no place there."""
    if source == target:
        return np.asarray(x), np.asarray(y)
    found = transform(source, target, x, y)
    return np.asarray(found[0]), np.asarray(found[1])


def shown_part(own: Ground, of: Ground) -> Rectangle | None:
    """The pixels of a file that are needed for a grid; None if they do not meet."""
    x, y = moved(of.crs, own.crs, *border(of))
    columns, rows = Ground(own.crs, ~own.transform, own.width, own.height).at(x, y)
    if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
        return None
    reach = math.ceil(MARGIN * max(1.0, np.ptp(columns) / of.width, np.ptp(rows) / of.height))
    left, right = (max(0, math.floor(columns.min()) - reach), min(own.width, math.ceil(columns.max()) + reach))
    top, bottom = (max(0, math.floor(rows.min()) - reach), min(own.height, math.ceil(rows.max()) + reach))
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def resample(
    pixels: Shaped[np.ndarray, "c h w"], masks: Bool[np.ndarray, "#c h w"] | None, own: Ground, onto: Ground
) -> tuple[Shaped[np.ndarray, "c y x"], Bool[np.ndarray, "#c y x"]]:
    """Resample pixels of ``own`` onto another grid (bilinear, antialiased); return them, and which hold data.

    Only values that hold data are averaged. One holds data if half of what it covers does, and is 0 otherwise.
    """
    weight = np.ones((1, *pixels.shape[1:]), np.float32) if masks is None else masks.astype(np.float32)
    found = _onto(
        np.concatenate([np.where(weight, pixels, 0).astype(np.float32), weight]), own, onto, Resampling.bilinear
    )
    share = found[len(pixels) :]
    valid = share >= 0.5
    mean = found[: len(pixels)] / np.maximum(share, 1e-6) * valid
    if np.issubdtype(pixels.dtype, np.integer):
        limits = np.iinfo(pixels.dtype)
        mean = mean.round().clip(limits.min, limits.max)
    return mean.astype(pixels.dtype), valid


def nearest(values: Shaped[np.ndarray, "h w"], own: Ground, onto: Ground) -> Shaped[np.ndarray, "y x"]:
    """Resample kinds, such as those of a mask: each pixel takes the nearest one, and 0 where there is none."""
    return _onto(values.astype(np.float32)[None], own, onto, Resampling.nearest)[0]


def _onto(values: Float[np.ndarray, "c h w"], own: Ground, onto: Ground, how: Resampling) -> Float[np.ndarray, "c y x"]:
    found = np.zeros((len(values), onto.height, onto.width), np.float32)
    reproject(
        values, found, src_transform=own.transform, src_crs=own.crs, dst_transform=onto.transform, dst_crs=onto.crs,
        resampling=how,
    )  # fmt: skip
    return found
