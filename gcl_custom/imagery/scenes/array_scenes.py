"""Scenes that are arrays of NumPy: ``.npy`` of the shape (h, w), (h, w, c) or (c, h, w).

GDAL reads them in place as raw values, by a description that is made here, so all that is done with a raster is done
with an array, too. Nothing is unpickled.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio

from gcl_custom.imagery.scenes.opening import ALONE, NoScene

TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip
"""What GDAL calls types of values. Which of them make tiles is asked later, as of every raster."""
RAW = {"GDAL_VRT_ENABLE_RAWRASTERBAND": "YES", "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "ALL"}
"""GDAL reads raw values, of the file that is named here and no other."""


@contextmanager
def opened_array(path: Path) -> Iterator[rasterio.DatasetReader]:
    """Open an array as a raster without coordinates. Only what is asked for is read.

    Raises:
        NoScene: it is truncated, holds Python objects or other values than numbers, or has other axes.
    """
    mapped = _mapped(path)
    array = mapped[None] if mapped.ndim == 2 else np.moveaxis(mapped, _bands(mapped.shape), 0)
    if mapped.dtype.name not in TYPES:
        raise NoScene("type of values", f"{mapped.dtype}; plain numbers are read")
    count, height, width = array.shape
    order = "MSB" if mapped.dtype.str.startswith(">") else "LSB"
    bands = "".join(
        f'<VRTRasterBand dataType="{TYPES[mapped.dtype.name]}" band="{band + 1}" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{escape(str(path.absolute()))}</SourceFilename>'
        f"<ImageOffset>{mapped.offset + band * array.strides[0]}</ImageOffset>"
        f"<PixelOffset>{array.strides[2]}</PixelOffset><LineOffset>{array.strides[1]}</LineOffset>"
        f"<ByteOrder>{order}</ByteOrder></VRTRasterBand>"
        for band in range(count)
    )
    about = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'
    with (
        rasterio.Env(**ALONE, **RAW),
        rasterio.MemoryFile(about.encode(), ext=".vrt") as file,
        file.open(driver="VRT") as dataset,
    ):
        yield dataset


def axes_in_words(paths: Sequence[Path]) -> str | None:
    """How the axes of arrays are taken; None where there are none. What is no scene is passed over."""
    found = Counter[str]()
    for path in paths:
        try:
            shape = _mapped(path).shape
            found[_name(shape)] += 1
        except (NoScene, OSError):  # packing will say so
            continue
    if not found:
        return None
    counts = ", ".join(f"{count:,} of {name}" for name, count in found.most_common())
    return f"arrays: {counts}; bands are the shortest axis"


def _mapped(path: Path) -> np.memmap:
    """An array that stays on the disk."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        if "Python objects" in str(error):
            raise NoScene("type of values", "Python objects, which are never unpickled: save plain numbers") from None
        raise NoScene("truncated or damaged", str(error)) from None
    if array.ndim not in (2, 3) or not array.size:
        raise NoScene("no picture", f"{_shown(array.shape)}; a scene has two axes, or three, one of them the bands")
    return array


def _bands(shape: tuple[int, ...]) -> int:
    """The axis of the bands: the first or the last, whichever is shorter than both others.

    Raises:
        NoScene: neither is.
    """
    for axis, others in ((0, shape[1:]), (2, shape[:2])):
        if shape[axis] < min(others):
            return axis
    raise NoScene(
        "no picture", f"{_shown(shape)}; the bands are the first or the last axis, and fewer than pixels along both"
    )


def _name(shape: tuple[int, ...]) -> str:
    return "(h, w)" if len(shape) == 2 else "(h, w, c)" if _bands(shape) else "(c, h, w)"


def _shown(shape: tuple[int, ...]) -> str:
    return f"shape ({', '.join(map(str, shape))})"
