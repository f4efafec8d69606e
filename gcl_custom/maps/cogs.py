"""Writing maps as cloud-optimised GeoTIFFs, row by row, so that a map need not fit into memory.

Each is written in two steps: rows, one after another, into a plain TIFF beside it, which GDAL's COG driver then copies
into blocks with overviews.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from jaxtyping import Shaped
from rasterio.windows import Window

from gcl_custom.files import write_atomically
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.pictures import class_colours

MOST_COLOURED = 255
"""Most classes of a map that has a table of colours; 255 means no data there."""

MOST_VALUES = 2**22
"""Values that a block of a map should have at most."""


class Map:
    """A map that is being written."""

    def __init__(self, raster: rasterio.io.DatasetWriter) -> None:
        self._raster = raster

    def rows(self, first: int, values: Shaped[np.ndarray, "c y x"]) -> None:
        """Write rows, from the upper edge to the lower one."""
        _, height, width = values.shape
        self._raster.write(values.astype(self._raster.dtypes[0]), window=Window(0, first, width, height))


@contextmanager
def written_map(
    out: Path,
    ground: Ground,
    dtype: str,
    nodata: float,
    bands: list[str],
    about: Mapping[str, str],
    classes: list[str] | None = None,
) -> Iterator[Map]:
    """Write a map, atomically.

    Args:
        ground: its cells.
        bands: what each band is.
        about: texts for its metadata.
        classes: names of the values 0, 1 and so on, if the map is one of classes.

    Raises:
        OSError: it cannot be written.
    """
    size = ground.width * ground.height * len(bands) * np.dtype(dtype).itemsize
    plain: dict[str, Any] = {"driver": "GTiff", "interleave": "pixel", "BIGTIFF": "IF_SAFER", "blockysize": 1}
    grid = {"crs": ground.crs, "transform": ground.transform, "width": ground.width, "height": ground.height}
    kept = {
        "compress": "DEFLATE", "predictor": "YES" if classes is None else "NO", "bigtiff": "IF_SAFER",
        "overview_resampling": "AVERAGE" if classes is None else "MODE", "blocksize": _block(len(bands)),
    }  # fmt: skip
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), write_atomically(out, 2 * size) as part:
        rows = part.with_name(f"{part.name}.rows")
        try:
            # Absolute, since GDAL takes names such as "zip:..." for more than names.
            with rasterio.open(
                Path(os.path.abspath(rows)), "w", count=len(bands), dtype=dtype, nodata=nodata, **plain, **grid
            ) as raster:
                raster.descriptions = bands
                raster.update_tags(**about)
                if classes is not None:
                    raster.update_tags(1, **{f"class_{number}": name for number, name in enumerate(classes)})
                if classes is not None and len(classes) <= MOST_COLOURED:
                    raster.write_colormap(1, _colours(len(classes)))
                yield Map(raster)
            rasterio.shutil.copy(os.path.abspath(rows), os.path.abspath(part), driver="COG", **kept)
        finally:
            with suppress(OSError):
                rows.unlink(missing_ok=True)


def _colours(classes: int) -> dict[int, tuple[int, int, int, int]]:
    """The colour of each class; none for other values."""
    found = (255 * class_colours(classes)).round().int().tolist()
    return {number: (red, green, blue, 255) for number, (red, green, blue) in enumerate(found)}


def _block(bands: int) -> int:
    """Side of a block in pixels. All bands of a block are written at once."""
    return next(side for side in (512, 256, 128) if bands * side**2 <= MOST_VALUES or side == 128)
