"""Rasters: TIFF, JPEG 2000 and 16-bit PNG, read by rasterio and by the one driver that their first bytes name.

c  bands     h w  pixels as they are stored     y x  pixels of the upright picture

Other drivers of GDAL read further files, or ask addresses, that a file names. A TIFF says how it is to be turned; GDAL
reads its pixels as they are stored, and does not say.
"""

import re
import struct
from contextlib import suppress
from mmap import mmap

import numpy as np
import rasterio
from einops import repeat
from jaxtyping import Shaped
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from gcl_custom.imagery.scenes.grid import Rectangle, ends
from gcl_custom.imagery.scenes.opening import in_memory
from gcl_custom.imagery.values.forms import (
    READ,
    Choice,
    Form,
    Picture,
    TileType,
    Unusable,
    is_no_measurement,
    require_count,
    unread,
)
from gcl_custom.imagery.values.pixels import chosen, without_missing

MOST_VALUES = 2**30
"""Most values, over all bands, that are decoded of a raster at once. Pillow has a limit of its own."""
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
"""The tag that says it, in TIFF and in EXIF."""


def raster_form(dataset: rasterio.DatasetReader, without: int | None = None) -> Form:
    """Bands of an open raster, their names and their type.

    Args:
        without: number of a band, from 1, that is none of the tiles.

    Raises:
        Unusable: it has several pages, or values of a type that is not read.
    """
    _require_one_page(dataset)
    bands, _ = _bands_of(dataset, without=without)
    count, dtype = len(bands), _stored_as(dataset)
    if dataset.colorinterp[0] == ColorInterp.palette:
        count, dtype = 3, "uint8"  # also where its numbers have 16 bits
    return Form(count, dtype, _names_of(dataset, bands))


def crop(picture: Picture, window: Rectangle) -> Picture:
    """A window of decoded pixels."""
    _, height, width = picture.pixels.shape
    _require_inside(window, width, height)
    part = tuple(slice(*edges) for edges in ends(window))
    valid = None if picture.valid is None or picture.valid[part].all() else picture.valid[part]
    by_band = None if picture.by_band is None else picture.by_band[:, *part]
    return picture._replace(pixels=picture.pixels[:, *part], valid=valid, by_band=by_band)


def _require_inside(window: Rectangle, width: int, height: int) -> None:
    (_, bottom), (_, right) = ends(window)
    if bottom > height or right > width:
        needed = f"{window[2]} x {window[3]} px at column {window[0]}, row {window[1]}"
        raise Unusable("window outside the file", f"{needed}; the file has {width} x {height} px")


def _require_room(width: int, height: int, bands: int) -> None:
    if width * height * bands > MOST_VALUES:
        size = f"{width:,} x {height:,} px in {bands} bands"
        raise Unusable(
            "too large", f"{size}; at most {MOST_VALUES:,} values are decoded at once: let data.scenes cut it"
        )


def raster_from(data: bytes, window: Rectangle | None, form: Form | None) -> Picture:
    """Decode the bands that make a tile, upright; see ``decode``."""
    orientation = orientation_of(data)
    if orientation != 1 and window:
        return crop(raster_from(data, None, form), window)
    try:
        with in_memory(data) as dataset:
            picture = read_raster(dataset, window, form)
    except RasterioError as error:
        raise damaged_raster(error) from None
    pixels, valid, alpha, by_band = picture
    turned = None if valid is None else upright(valid[None], orientation)[0]
    by_band = None if by_band is None else upright(by_band, orientation)
    return Picture(upright(pixels, orientation), turned, alpha, by_band)


def damaged_raster(error: RasterioError) -> Unusable:
    """Say that a raster cannot be read to its end."""
    return Unusable("truncated or damaged", str(error.__cause__ or error))


def read_raster(
    dataset: rasterio.DatasetReader, window: Rectangle | None, form: Form | None, without: int | None = None
) -> Picture:
    """Read an open raster, or a window of it, as its pixels are stored.

    Args:
        form: of the data set, as in ``decode``.
        without: number of a band, from 1, that is none of the tiles.

    Raises:
        Unusable: as ``decode`` does.
        RasterioError: it is damaged.
    """
    dtype = _stored_as(dataset)
    _require_one_page(dataset)
    palette = dataset.colormap(1) if dataset.colorinterp[0] == ColorInterp.palette else None
    bands, alpha = _bands_of(dataset, form.of_file if form else None, without)
    if form and form.choice and not palette:
        bands = _chosen(dataset, bands, form.choice)
    if window:
        _require_inside(window, dataset.width, dataset.height)
    width, height = window[2:] if window else (dataset.width, dataset.height)
    _require_room(width, height, len(bands))
    part = ends(window) if window else None
    try:
        pixels = dataset.read(bands, window=part)
        masks = dataset.read_masks(bands, window=part) > 0
    except MemoryError as error:
        raise too_large(error) from None
    except RasterioError:
        forget_error(dataset)
        raise
    if not alpha and MaskFlags.alpha in dataset.mask_flag_enums[0]:
        masks = np.ones_like(masks)  # the band that the file calls alpha is one of the tiles, or shows clouds
    if palette:
        indices = range(max(256, int(pixels[0].max(initial=0)) + 1))
        colours = np.array([palette.get(index, (0, 0, 0))[:3] for index in indices], dtype=np.uint8)
        pixels = chosen(colours[pixels[0]].transpose(2, 0, 1), form)
        masks = repeat(masks[0], "h w -> c h w", c=len(pixels))
    if not (masks.all() or is_no_measurement(dataset.nodata, dtype)):
        # A pixel with data in some bands counts as data: a bright band may happen to have the nodata value.
        masks = np.broadcast_to(masks.any(axis=0), masks.shape)
    return without_missing(pixels, masks, alpha, form.fill if form else None)


def forget_error(dataset: rasterio.DatasetReader) -> None:
    """Let the next call that asks GDAL for something raise the error that a failed reading has left behind."""
    with suppress(CPLE_BaseError):
        _ = dataset.colorinterp


def _require_one_page(dataset: rasterio.DatasetReader) -> None:
    if pages := len(dataset.subdatasets):
        raise Unusable(
            "several pages",
            f"{pages} pages; only a TIFF of one is read: save each as a file of its own, or, if they are bands, all as "
            f"bands of one page (in tifffile: planarconfig='separate', photometric='minisblack')",
        )


def _bands_of(
    dataset: rasterio.DatasetReader, of_data_set: int | None = None, without: int | None = None
) -> tuple[list[int], bool]:
    """The bands to read, and whether an alpha band is left out."""
    there = [band for band in dataset.indexes if band != without]
    if len(there) == of_data_set:
        return there, False
    bands = [band for band in there if dataset.colorinterp[band - 1] != ColorInterp.alpha]
    return bands, len(bands) < len(there)


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


def orientation_of(data: bytes | mmap) -> int:
    """How the bytes of a file are to be turned, 1 to 8 as in EXIF; 1, upright, for all but a TIFF that says so."""
    if data[:4] not in TIFFS:
        return 1
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
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
