"""What lies in the files that were read: kinds, sizes, bands, types, projections; values; copies and blank tiles.

c  bands     s  side of a tile     v  values that are kept of each band of a tile
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from jaxtyping import Float, Int, Real, Shaped
from PIL import Image
from rasterio.errors import RasterioError

from gcl_custom.arrays import NUMPY
from gcl_custom.check.fill_values import Corner, at_corners
from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Tile
from gcl_custom.imagery.scenes.opening import DRIVERS, NoScene
from gcl_custom.imagery.scenes.remote import Remote
from gcl_custom.imagery.scenes.scene import open_raster
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.values.forms import READ, missing

VALUES = 64
"""Most values that are kept of each band of a tile, spread evenly over it."""
KINDS = {"GTiff": "TIFF", "JP2OpenJPEG": "JPEG 2000"}
"""What people call the formats that drivers of GDAL read."""
BINS = 48
BLANK = 0.01
"""A tile is blank if each band varies by less than this share of the band's range over all tiles."""


class FileForm(NamedTuple):
    """What a file says of itself."""

    kind: str
    width: int
    height: int
    bands: int
    dtype: str
    projection: str
    """EPSG:NUMBER, or the name of one without a number; empty without one."""


def form_cells(form: FileForm) -> list[str]:
    """A form, for tables on the console and on the page."""
    size = f"{form.width:,} × {form.height:,}"
    return [form.kind, size, f"{form.bands}", form.dtype, form.projection or "none"]


class Seen(NamedTuple):
    """What is kept of a tile that was read."""

    form: FileForm | None
    deviation: Float[np.ndarray, " c"]
    """Standard deviation of each band."""
    values: Shaped[np.ndarray, "c v"]
    digest: str
    corners: tuple[Corner, ...] = ()
    """Values that may stand for no data; see ``fill_values.at_corners``."""


def form_in(content: bytes) -> FileForm | None:
    """What the header of a file says; None if it cannot be read."""
    driver = next((name for magic, name in DRIVERS.items() if content.startswith(magic)), None)
    try:
        if driver:
            with rasterio.MemoryFile(content) as file, file.open(driver=driver) as raster:
                return _of_raster(raster)
        if content.startswith(NUMPY):
            array = np.load(io.BytesIO(content), allow_pickle=False)
            bands, height, width = array.shape
            return FileForm("array", width, height, bands, array.dtype.name, "")
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG", "WEBP"]) as image:
            dtype = "uint16" if image.mode.startswith("I") else "uint8"
            return FileForm(str(image.format), *image.size, len(image.getbands()), dtype, "")
    except (OSError, ValueError, SyntaxError, RasterioError, Image.DecompressionBombError):
        return None


def form_of_scene(where: Path | Remote) -> FileForm | None:
    """What the header of a scene says; None if it cannot be read."""
    try:
        with open_raster(where) as raster:
            return _of_raster(raster)
    except (NoScene, RasterioError, OSError, UserError, UnicodeEncodeError):  # the last of a name that is not UTF-8
        return None


def _of_raster(raster: rasterio.DatasetReader) -> FileForm:
    projection = _name(raster.crs.to_string()) if raster.crs else ""
    kind = KINDS.get(raster.driver, "array")
    return FileForm(kind, raster.width, raster.height, raster.count, raster.dtypes[0], projection)


def _name(projection: str) -> str:
    """A projection's code, or the name in its text, which may be a page long."""
    found = re.match(r'\w+\["([^"]*)"', projection)
    return projection if found is None else found[1].strip() or "unnamed"


def seen(content: bytes | None, tile: Tile, digest: str) -> Seen:
    """What is kept of a tile.

    Args:
        content: the bytes of its file; None where they were not read whole.
    """
    flat = tile.pixels.reshape(len(tile.pixels), -1)
    bands = [_held(band) for band in flat] if any(tile.lacking) and flat.dtype.kind != "u" else flat
    most = min(VALUES, flat.shape[1])
    values = np.stack([band[np.linspace(0, len(band) - 1, most).round().astype(int)] for band in bands])
    deviation = np.array([band.std(dtype=np.float64) for band in bands])
    return Seen(form_in(content) if content else None, deviation, values, digest, at_corners(tile.pixels))


def _held(band: Real[np.ndarray, " p"]) -> Real[np.ndarray, " q"]:
    """The values of a band that hold data; a single 0 if none does."""
    held = band[band != missing(READ[band.dtype.name])]
    return held if len(held) else np.zeros(1, band.dtype)


@dataclass(frozen=True)
class Inventory:
    """What was seen of the usable tiles, and why others are not.

    Attributes:
        read: number of files that were read.
        of: number of files that there are.
        tiles: what was seen of each usable tile.
        unusable: why each of the others is none.
        scenes: the forms of the scenes that tiles are windows of, by path.
    """

    read: int
    of: int
    tiles: Mapping[Source, Seen]
    unusable: Mapping[Source, str] = field(default_factory=dict)
    scenes: Mapping[str, FileForm] = field(default_factory=dict)

    @property
    def forms(self) -> list[tuple[FileForm, int]]:
        """The forms of files, the most common first."""
        of_tiles = (each.form for each in self.tiles.values() if each.form)
        return Counter([*of_tiles, *self.scenes.values()]).most_common()

    @property
    def copies(self) -> list[list[Source]]:
        """Tiles of the same content."""
        alike = defaultdict(list)
        for source, each in self.tiles.items():
            alike[each.digest].append(source)
        return [sources for sources in alike.values() if len(sources) > 1]

    @property
    def ranges(self) -> Float[np.ndarray, "c 2"]:
        """The 0.1 and 99.9 percentile of each band."""
        return np.percentile(self.values, [0.1, 99.9], axis=1).T

    @property
    def blank(self) -> list[Source]:
        """Tiles that show next to nothing."""
        low, high = self.ranges.T
        least = BLANK * np.maximum(high - low, 1e-12)
        return [source for source, each in self.tiles.items() if (each.deviation < least).all()]

    def different(self, band: int) -> int:
        """How many different values of a band were seen."""
        return len(np.unique(self.values[band]))

    def histogram(self, band: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " m"]]:
        """Counts of the values of a band, and the borders between them; what lies beyond its range is left out."""
        low, high = self.ranges[band]
        counts, borders = np.histogram(self.values[band], BINS, (low, max(high, low + 1e-6)))
        return counts, borders.astype(np.float64)

    @property
    def values(self) -> Shaped[np.ndarray, "c n"]:
        """Some values of each band, of all tiles."""
        return np.concatenate([each.values for each in self.tiles.values()], axis=1)
