"""Decoding: the bytes of a file -> a tile.

    c  bands     h w  pixels of a file     s  side of a tile

The first bytes of a file decide how it is read, not its name. rasterio reads TIFF, JPEG 2000 and 16-bit PNG, NumPy an
.npy, Pillow the rest. rasterio gets the bytes and the one driver that they name: other drivers of GDAL read further
files, or ask addresses, that a file names. torchvision reads nothing here: its PNG decoder crashes the process on some
damaged files and takes the indices of a palette for colours. A JPEG is decoded at its full size: Pillow could leave out
the frequencies that a smaller tile cannot hold, in half the time, but by 1 to 4 levels of 255 it is another resize.
"""

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import torch
from einops import repeat
from jaxtyping import Bool, Integer, Shaped
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform
from torch import Tensor

from gcl_custom.imagery.collections.stacks import MAGIC, array_from
from gcl_custom.imagery.orientation import orientation_of, upright
from gcl_custom.imagery.source import Window

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
STORED = ("uint8", "uint16", "int16")
SCENE = 16
"""From so many times the side of a tile on, a file counts as a scene."""

UNREAD = "cannot be opened"
"""The kind of a file that the system does not let be read."""
NODATA = "nodata"
"""The kind of a file with too little data. Nothing is wrong with it: it may lie at the border of a scene."""


class Unusable(Exception):  # noqa: N818  says what the source is
    """A source that cannot become a tile: ``kind`` groups equal problems, ``detail`` is about this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} ({detail})" if detail else kind)
        self.kind, self.detail = kind, detail


class Form(NamedTuple):
    """What all tiles of a store have in common, apart from their size."""

    bands: int
    dtype: str
    """uint8, uint16 or int16."""


class Picture(NamedTuple):
    """Decoded pixels. An alpha band is not among the bands; it says which pixels hold data."""

    pixels: Integer[np.ndarray, "c h w"]
    valid: Bool[np.ndarray, "h w"] | None
    """Whether a pixel holds data; None if all do."""
    alpha: bool
    """Whether there was an alpha band."""


class Tile(NamedTuple):
    pixels: Integer[np.ndarray, "c h w"]
    nodata: float
    """Share of pixels without data. They are 0 in all bands."""
    grey: bool
    """Whether one band was repeated to three."""
    alpha: bool
    """Whether an alpha band was dropped."""
    scene: bool
    """Whether the file is so large that it was not cut into tiles, it seems."""


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


@contextmanager
def reading() -> Iterator[None]:
    """Put this around all reading of files: it refuses truncated files and silences warnings about metadata.

    Tiles need neither coordinates nor tidy metadata. Both settings belong to the process, so the context is entered
    around a pool of threads, never inside one.
    """
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def form_of(path: Path) -> Form:
    """Read bands and integer type of a file from its header.

    Raises:
        Unusable: not an image, not to be opened, or of a type that is not stored.
    """
    try:
        with path.open("rb") as file:
            raster = _driver(file.read(32)) is not None
        if raster:
            with _opened(path.read_bytes()) as dataset:
                _require_one_page(dataset)
                bands, _ = _bands_of(dataset)
                return Form(3 if dataset.colorinterp[0] == ColorInterp.palette else len(bands), _stored_as(dataset))
        with Image.open(path, formats=["JPEG", "PNG", "WEBP"]) as image:
            return Form(1 if image.mode in ("1", "L", "LA") else 3, "uint8")
    except RasterioError as error:
        raise Unusable("damaged", str(error)) from None
    except Image.DecompressionBombError as error:
        raise _too_large(error) from None
    except (UnidentifiedImageError, SyntaxError, ValueError, struct.error):
        raise Unusable("not an image") from None
    except OSError as error:
        raise Unusable(UNREAD, str(error.strerror)) if error.strerror else Unusable("not an image") from None


def decode(data: bytes, window: Window | None = None, bands: int | None = None) -> Picture:
    """Decode a file's bytes to pixels of uint8, uint16 or int16, turned upright as EXIF or the TIFF says.

    Palettes and CMYK become red, green and blue. A truncated file is refused.

    Args:
        window: decode this part only. A raster is read there alone; other files are decoded whole, then cropped.
        bands: of the data set. In a file with just as many, the last is a band even if the file calls it alpha, as
            files of red, green, blue and near infrared often do.

    Raises:
        Unusable: not an image, truncated, damaged, too large, of a type that is not stored, or the window leaves it.
    """
    if _driver(data):
        return _raster(data, window, bands)
    return _pillow(data, bands) if window is None else _crop(_pillow(data, bands), window)


def _driver(head: bytes) -> str | None:
    """The driver of GDAL that reads a file with these first bytes; None if Pillow reads it."""
    if head.startswith(PNG):
        return "PNG" if head[24:25] == b"\x10" else None
    return next((driver for magic, driver in DRIVERS.items() if head.startswith(magic)), None)


@contextmanager
def _opened(data: bytes) -> Iterator[rasterio.DatasetReader]:
    """Open a raster from its bytes alone: by its own driver, with no file beside it."""
    with rasterio.MemoryFile(data) as file, file.open(driver=_driver(data)) as dataset:
        yield dataset


def _pillow(data: bytes, bands: int | None) -> Picture:
    try:
        if data.startswith(MAGIC):
            return Picture(array_from(data, STORED), None, alpha=False)
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            return picture_from(image, bands)
    except UnidentifiedImageError:
        raise Unusable("not an image") from None
    except TypeError as error:
        raise Unusable("type of values", str(error)) from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise _too_large(error) from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise Unusable("truncated or damaged", str(error)) from None


def _too_large(error: Exception) -> Unusable:
    size = re.search(r"\d+ pixels", str(error))  # without the rest of Pillow's sentence, which suspects an attack
    return Unusable("too large", f"{size[0] if size else 'more than the memory holds'}; cut it into tiles first")


def picture_from(image: Image.Image, bands: int | None = None) -> Picture:
    """The pixels of an image that Pillow has opened, upright, as uint8.

    Args:
        bands: of the data set, as in ``decode``.
    """
    alpha = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA")
    upright = ImageOps.exif_transpose(image).convert(("LA" if grey else "RGBA") if alpha else "L" if grey else "RGB")
    pixels = np.atleast_3d(np.asarray(upright)).transpose(2, 0, 1)
    if not alpha or (image.mode == "RGBA" and bands == 4):
        return Picture(pixels, None, alpha=False)
    valid = pixels[-1] > 0
    return Picture(pixels[:-1], None if valid.all() else valid, alpha=True)


def _crop(picture: Picture, window: Window) -> Picture:
    _, height, width = picture.pixels.shape
    _require_inside(window, width, height)
    part = tuple(slice(*ends) for ends in window.ends)
    valid = None if picture.valid is None or picture.valid[part].all() else picture.valid[part]
    return picture._replace(pixels=picture.pixels[:, *part], valid=valid)


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


def _raster(data: bytes, window: Window | None, of_data_set: int | None) -> Picture:
    orientation = orientation_of(data)
    if orientation != 1 and window:
        return _crop(_raster(data, None, of_data_set), window)
    try:
        with _opened(data) as dataset:
            _stored_as(dataset)
            _require_one_page(dataset)
            bands, alpha = _bands_of(dataset, of_data_set)
            if window:
                _require_inside(window, dataset.width, dataset.height)
            width, height = (window.width, window.height) if window else (dataset.width, dataset.height)
            _require_room(width, height, len(bands))
            ends = window.ends if window else None
            pixels = dataset.read(bands, window=ends)
            masks = dataset.read_masks(bands, window=ends) > 0
            sentinel = dataset.nodata is not None and dataset.nodata < 0
            palette = dataset.colormap(1) if dataset.colorinterp[0] == ColorInterp.palette else None
    except RasterioError as error:
        raise Unusable("truncated or damaged", str(error.__cause__ or error)) from None
    except MemoryError as error:
        raise _too_large(error) from None
    if palette:
        colours = np.array([palette.get(index, (0, 0, 0))[:3] for index in range(256)], dtype=np.uint8)
        pixels, masks = colours[pixels[0]].transpose(2, 0, 1), repeat(masks[0], "h w -> c h w", c=3)
    pixels, masks = upright(pixels, orientation), upright(masks, orientation)
    if masks.all():
        return Picture(pixels, None, alpha)
    valid = np.asarray(masks.any(axis=0))
    # A pixel with data in some bands counts as data. A bright band may happen to have the nodata value, so it keeps it;
    # a negative one, such as -9999, is no measurement and becomes 0.
    return Picture(pixels * (masks if sentinel else valid), None if valid.all() else valid, alpha)


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


def _stored_as(dataset: rasterio.DatasetReader) -> str:
    (dtype, *others) = sorted(set(dataset.dtypes))
    if others or dtype not in STORED:
        raise Unusable("type of values", f"{' and '.join([dtype, *others])}; only uint8, uint16 and int16 are read")
    return dtype


def tile_from(data: bytes, form: Form, size: int, upscale: bool, nodata: float, window: Window | None = None) -> Tile:
    """Decode a file, or a window of it, and make a tile as ``tile_of`` does.

    Raises:
        Unusable: there is no such tile.
    """
    return tile_of(decode(data, window, form.bands), form, size, upscale, nodata)


def tile_of(picture: Picture, form: Form, size: int, upscale: bool, nodata: float) -> Tile:
    """Make a tile of the given form: resize the shorter side to ``size`` (antialiased), crop the centre.

    Args:
        upscale: whether to enlarge what is smaller than ``size`` pixels.
        nodata: largest share of pixels without data.

    Raises:
        Unusable: there is no such tile.
    """
    pixels, valid, alpha = picture
    grey = len(pixels) == 1 and form.bands == 3
    if grey:
        pixels = repeat(pixels, "1 h w -> c h w", c=3)
    if len(pixels) != form.bands:
        raise Unusable("number of bands", f"{len(pixels)}, the data set has {form.bands}")
    pixels = _as_stored(pixels, form.dtype)
    height, width = pixels.shape[1:]
    if min(height, width) < size and not upscale:
        detail = f"{width} x {height} px, data.size is {size}: lower it, or set data.upscale: true"
        raise Unusable("smaller than data.size", detail)
    pixels, valid = _resized(pixels, valid, size)
    missing = 0.0 if valid is None else 1 - float(valid.mean())
    if missing > nodata:
        raise Unusable(NODATA, f"{missing:.0%} of its pixels; data.nodata allows {nodata:.0%}")
    return Tile(pixels, missing, grey, alpha, min(height, width) >= SCENE * size)


def _as_stored(pixels: Integer[np.ndarray, "c h w"], dtype: str) -> Integer[np.ndarray, "c h w"]:
    """The same values in the type of the data set, which is the other one of 16 bits at most."""
    if pixels.dtype == dtype:
        return pixels
    if pixels.dtype == np.uint8 or dtype == "uint8":
        raise Unusable("type of values", f"{pixels.dtype} among tiles of {dtype}")
    lowest, highest, limits = int(pixels.min()), int(pixels.max()), np.iinfo(dtype)
    if lowest < limits.min or highest > limits.max:
        raise Unusable("type of values", f"{lowest} to {highest} among tiles of {dtype}; save all files in one type")
    return pixels.astype(dtype)


def place_of(data: bytes, window: Window | None = None) -> Place | None:
    """Locate the centre of a file or window by the file's georeference; None if it has none."""
    if not _driver(data):
        return None
    with _opened(data) as dataset:
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


def _tensor(values: Shaped[np.ndarray, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The same values. A decoder's own memory, which may not be written to, is copied, or torch would warn of it."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _resized(
    pixels: Integer[np.ndarray, "c h w"], valid: Bool[np.ndarray, "h w"] | None, size: int
) -> tuple[Integer[np.ndarray, "c s s"], Bool[np.ndarray, "s s"] | None]:
    height, width = pixels.shape[1:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))

    def resize(values: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(values[None], shape, mode="bilinear", antialias=True)[0]

    if shape != (height, width) and valid is None and pixels.dtype == np.uint8:
        pixels = resize(_tensor(pixels)).numpy()
    elif shape != (height, width):
        # Only pixels that hold data are averaged, so that nodata does not darken its neighbours.
        weight = torch.ones(1, height, width) if valid is None else _tensor(valid)[None].float()
        share = resize(weight)
        mean = resize(torch.from_numpy(pixels.astype(np.float32)) * weight) / share.clamp(min=1e-6)
        pixels = mean.round().numpy().astype(pixels.dtype)
        valid = None if valid is None else (share[0] >= 0.5).numpy()
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    centre = (slice(top, top + size), slice(left, left + size))
    if valid is None:
        return np.ascontiguousarray(pixels[:, *centre]), None
    return pixels[:, *centre] * valid[centre], valid[centre]
