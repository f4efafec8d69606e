"""Opening a raster by the one driver that its first bytes name, with no file beside it.

Other drivers of GDAL read further files, or ask addresses, that a file names: a virtual raster does, whatever its name
ends in. Files beside a raster, such as masks, overviews and world files, would change what it shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio

PNG = b"\x89PNG\r\n\x1a\n"
DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
}
"""First bytes of TIFF, BigTIFF and JPEG 2000, and the driver of each."""
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
"""GDAL takes the folder for empty, and reads no .aux.xml."""


class NoScene(Exception):  # noqa: N818  says what the file is not
    """A file without windows: ``kind`` groups equal problems, ``detail`` is about this one."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind} ({detail})")
        self.kind, self.detail = kind, detail


def driver_of(head: bytes) -> str | None:
    """The driver of GDAL that reads a file with these first bytes; None if Pillow reads it."""
    if head.startswith(PNG):
        return "PNG" if head[24:25] == b"\x10" else None
    return next((driver for magic, driver in DRIVERS.items() if head.startswith(magic)), None)


@contextmanager
def in_memory(data: bytes) -> Iterator[rasterio.DatasetReader]:
    """Open a raster from its bytes alone.

    Raises:
        rasterio.errors.RasterioError: it is damaged.
    """
    with rasterio.MemoryFile(data) as file, file.open(driver=driver_of(data)) as dataset:
        yield dataset


@contextmanager
def opened(path: Path, driver: str) -> Iterator[rasterio.DatasetReader]:
    """Open a raster by its path. Only what is asked for is read.

    Raises:
        rasterio.errors.RasterioError: it is damaged.
    """
    options = {} if driver == "PNG" else {"GEOREF_SOURCES": "INTERNAL"}
    # An absolute Path: rasterio would read "zip:..." as a text, and GDAL "GTIFF_DIR:...", as more than a name.
    absolute = Path(os.path.abspath(path))
    with rasterio.Env(**ALONE), rasterio.open(absolute, driver=driver, sharing=False, **options) as dataset:
        yield dataset
