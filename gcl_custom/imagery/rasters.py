"""Rasters: TIFF, JPEG 2000 and 16-bit PNG, read by rasterio from their bytes and by the one driver that they name.

c  bands     h w  pixels as they are stored     y x  pixels of the upright picture

Other drivers of GDAL read further files, or ask addresses, that a file names. A TIFF says how it is to be turned; GDAL
reads its pixels as they are stored, and does not say.
"""

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import rasterio
from einops import repeat
from jaxtyping import Shaped
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.warp import transform

from gcl_custom.imagery.source import Window
from gcl_custom.imagery.values.forms import READ, Choice, Form, Picture, TileType, Unusable, require_count, unread
from gcl_custom.imagery.values.pixels import chosen, without_missing

PNG = b"\x89PNG\r\n\x1a\n"
DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
}
"""First bytes of TIFF, BigTIFF and JPEG 2000, and the driver of each."""
MOST_VALUES = 2**30
"""Most values, over all bands, that are decoded of a raster at once. Pillow has a limit of its own."""
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
"""The tag that says it, in TIFF and in EXIF."""


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


def driver_of(head: bytes) -> str | None:
    """The driver of GDAL that reads a file with these first bytes; None if Pillow reads it."""
    if head.startswith(PNG):
        return "PNG" if head[24:25] == b"\x10" else None
    return next((driver for magic, driver in DRIVERS.items() if head.startswith(magic)), None)


@contextmanager
def opened(data: bytes) -> Iterator[rasterio.DatasetReader]:
    """Open a raster from its bytes alone: by its own driver, with no file beside it."""
    with rasterio.MemoryFile(data) as file, file.open(driver=driver_of(data)) as dataset:
        yield dataset


def raster_form(data: bytes) -> Form:
    """Bands of a raster, their names and their type, from its header.

    Raises:
        Unusable: it has several pages, or values of a type that is not read.
    """
    with opened(data) as dataset:
        _require_one_page(dataset)
        bands, _ = _bands_of(dataset)
        count = 3 if dataset.colorinterp[0] == ColorInterp.palette else len(bands)
        return Form(count, _stored_as(dataset), _names_of(dataset, bands))


def crop(picture: Picture, window: Window) -> Picture:
    _, height, width = picture.pixels.shape
    _require_inside(window, width, height)
    part = tuple(slice(*ends) for ends in window.ends)
    valid = None if picture.valid is None or picture.valid[part].all() else picture.valid[part]
    by_band = None if picture.by_band is None else picture.by_band[:, *part]
    return picture._replace(pixels=picture.pixels[:, *part], valid=valid, by_band=by_band)


def _require_inside(window: Window, width: int, height: int) -> None:
    (_, bottom), (_, right) = window.ends
    if bottom > height or right > width:
        needed = f"{window.width} x {window.height} px at column {window.column}, row {window.row}"
        raise Unusable("window outside the file", f"{needed}; the file has {width} x {height} px")


def _require_room(width: int, height: int, bands: int) -> None:
    if width * height * bands > MOST_VALUES:
        size = f"{width:,} x {height:,} px in {bands} bands"
        raise Unusable(
            "too large", f"{size}; at most {MOST_VALUES:,} values are decoded at once: cut it into tiles first"
        )


def read_raster(data: bytes, window: Window | None, form: Form | None) -> Picture:
    """Decode the bands that make a tile; see ``decode``."""
    orientation = orientation_of(data)
    if orientation != 1 and window:
        return crop(read_raster(data, None, form), window)
    try:
        with opened(data) as dataset:
            dtype = _stored_as(dataset)
            _require_one_page(dataset)
            palette = dataset.colormap(1) if dataset.colorinterp[0] == ColorInterp.palette else None
            bands, alpha = _bands_of(dataset, form.of_file if form else None)
            if form and form.choice and not palette:
                bands = _chosen(dataset, bands, form.choice)
            if window:
                _require_inside(window, dataset.width, dataset.height)
            width, height = (window.width, window.height) if window else (dataset.width, dataset.height)
            _require_room(width, height, len(bands))
            ends = window.ends if window else None
            pixels = dataset.read(bands, window=ends)
            masks = dataset.read_masks(bands, window=ends) > 0
            nodata = dataset.nodata
    except RasterioError as error:
        raise Unusable("truncated or damaged", str(error.__cause__ or error)) from None
    except MemoryError as error:
        raise too_large(error) from None
    if palette:
        colours = np.array([palette.get(index, (0, 0, 0))[:3] for index in range(256)], dtype=np.uint8)
        pixels = chosen(colours[pixels[0]].transpose(2, 0, 1), form)
        masks = repeat(masks[0], "h w -> c h w", c=len(pixels))
    pixels, masks = upright(pixels, orientation), upright(masks, orientation)
    if not (masks.all() or _is_no_measurement(nodata, dtype)):
        # A pixel with data in some bands counts as data: a bright band may happen to have the nodata value.
        masks = np.broadcast_to(masks.any(axis=0), masks.shape)
    return without_missing(pixels, masks, alpha)


def _is_no_measurement(nodata: float | None, dtype: TileType) -> bool:
    """Whether a nodata value cannot be the value of a band that holds data, such as -9999 can not."""
    return nodata is not None and (nodata < 0 or (dtype == "float32" and nodata != 0))


def _require_one_page(dataset: rasterio.DatasetReader) -> None:
    if pages := len(dataset.subdatasets):
        raise Unusable(
            "several pages",
            f"{pages} pages; only a TIFF of one is read: save each as a file of its own, or, if they are bands, all as "
            f"bands of one page (in tifffile: planarconfig='separate', photometric='minisblack')",
        )


def _bands_of(dataset: rasterio.DatasetReader, of_data_set: int | None = None) -> tuple[list[int], bool]:
    """The bands to read, and whether an alpha band is left out."""
    if dataset.count == of_data_set:
        return list(dataset.indexes), False
    bands = [band for band, role in zip(dataset.indexes, dataset.colorinterp, strict=True) if role != ColorInterp.alpha]
    return bands, len(bands) < dataset.count


def _names_of(dataset: rasterio.DatasetReader, bands: list[int]) -> tuple[str, ...] | None:
    """The file's own names of bands; one without a name is called by its number. None if it has no names."""
    given = [(dataset.descriptions[band - 1] or "").strip() for band in bands]
    return tuple(name or str(band) for name, band in zip(given, bands, strict=True)) if any(given) else None


def _chosen(dataset: rasterio.DatasetReader, bands: list[int], choice: Choice) -> list[int]:
    """The bands to read of those that the file has.

    Raises:
        Unusable: the file has other bands than the data set.
    """
    require_count(len(bands), choice.of)
    if choice.called and (names := _names_of(dataset, bands)) != choice.called:
        differ = next(pair for pair in zip(names, choice.called, strict=True) if len(set(pair)) > 1) if names else ""
        found = f"{differ[0]} where others have {differ[1]}" if differ else "none in this file"
        raise Unusable("names of bands", f"{found}; to choose by place in the file, name the bands: data.bands")
    return [bands[number - 1] for number in choice.numbers]


def _stored_as(dataset: rasterio.DatasetReader) -> TileType:
    (dtype, *others) = sorted(set(dataset.dtypes))
    if others or dtype not in READ:
        raise unread(" and ".join([dtype, *others]))
    return READ[dtype]


def too_large(error: Exception) -> Unusable:
    """The reason for a file that a decoder calls too large, or the memory is too small for."""
    size = re.search(r"\d+ pixels", str(error))  # without the rest of Pillow's sentence, which suspects an attack
    return Unusable("too large", f"{size[0] if size else 'more than the memory holds'}; cut it into tiles first")


def place_of(data: bytes, window: Window | None = None) -> Place | None:
    """Locate the centre of a file or window by the file's georeference; None if it has none."""
    if not driver_of(data):
        return None
    with opened(data) as dataset:
        if not dataset.crs:
            return None
        left, top, width, height = window or (0, 0, dataset.width, dataset.height)
        column, row, (a, b, c, d, e, f) = left + width / 2, top + height / 2, dataset.transform[:6]
        x, y = a * column + b * row + c, d * column + e * row + f
        try:
            (longitude,), (latitude,) = transform(dataset.crs, "EPSG:4326", [x], [y])
        except (RasterioError, CPLE_BaseError):  # a local system, such as that of a building site
            longitude = latitude = math.inf
        known = math.isfinite(longitude) and math.isfinite(latitude)
        degrees = (longitude, latitude) if known else (None, None)
        return Place(x, y, dataset.crs.to_string(), *degrees)


def orientation_of(data: bytes) -> int:
    """How the bytes of a file are to be turned, 1 to 8 as in EXIF; 1, upright, for all but a TIFF that says so."""
    if not data.startswith(TIFFS):
        return 1
    order, big = "<" if data.startswith(b"II") else ">", b"+" in data[2:4]
    try:
        (tags,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, tags)
        first, length = (tags + 8, 20) if big else (tags + 2, 12)
        for place in range(first, min(first + count * length, len(data)), length):
            if struct.unpack_from(f"{order}H", data, place) == (ORIENTATION,):
                (found,) = struct.unpack_from(f"{order}H", data, place + length - (8 if big else 4))
                return found if found in range(1, 9) else 1
    except struct.error:
        pass  # the file ends too early, as its driver will say
    return 1


def upright(pixels: Shaped[np.ndarray, "c h w"], orientation: int) -> Shaped[np.ndarray, "c y x"]:
    """Turn and flip as EXIF's values 1 to 8 say."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(0, 2, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[:, ::rows, ::columns]
