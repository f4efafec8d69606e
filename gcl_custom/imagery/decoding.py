"""One file -> one tile.

    c  bands     h w  pixels of a file     s  side of a tile

The first bytes of a file say what it is, not its name. rasterio reads TIFF, JPEG 2000 and 16-bit PNG, Pillow the rest,
for three reasons: torchvision's PNG decoder crashes the process on some damaged files and takes the indices of a
palette for its colours, its JPEG decoder is to be removed, and Pillow is as fast where tiles are made smaller, since it
lets the JPEG decoder leave out the frequencies that a smaller tile cannot hold.
"""

import io
import math
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
from jaxtyping import Bool, UInt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform
from torch import Tensor

PNG = b"\x89PNG\r\n\x1a\n"
RASTERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ")
"""First bytes of TIFF, BigTIFF and JPEG 2000."""
STORED_AS = {"uint8": "uint8", "uint16": "uint16", "int16": "uint16"}


class Unusable(Exception):  # noqa: N818  says what the file is
    """A file that cannot become a tile: ``kind`` groups the like, ``detail`` is about this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} ({detail})" if detail else kind)
        self.kind, self.detail = kind, detail


class Form(NamedTuple):
    """What all tiles of a store have in common before they are resized."""

    bands: int
    dtype: str
    """uint8 or uint16; int16 is stored as uint16."""


class Picture(NamedTuple):
    """A decoded file; an alpha band is no band, it says which pixels hold data."""

    pixels: UInt[np.ndarray, "c h w"]
    valid: Bool[np.ndarray, "h w"] | None
    """Where there is data; None where there is data everywhere."""
    alpha: bool


class Tile(NamedTuple):
    pixels: UInt[np.ndarray, "c h w"]
    nodata: float
    """Share of pixels without data; they are 0 in all bands."""
    grey: bool
    """Whether one band was repeated to three."""
    alpha: bool
    """Whether an alpha band was dropped."""


class Place(NamedTuple):
    """Centre of a file on earth; its tile, cut from the centre, has the same."""

    x: float
    y: float
    """In units of the coordinate reference system."""
    crs: str
    """EPSG:NUMBER, or WKT where it has none."""
    longitude: float | None
    latitude: float | None
    """In degrees (WGS 84); None where the system lies nowhere on earth."""


@contextmanager
def reading() -> Iterator[None]:
    """Around all reading of files: truncated ones are refused, and tiles need neither coordinates nor tidy metadata.

    Both settings belong to the process, so this stands around a pool of threads, never inside one.
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
    """Bands and integer type of a file, from its header.

    Raises:
        Unusable: not an image, or of a type that is not stored.
    """
    with path.open("rb") as file:
        head = file.read(32)
    try:
        if _is_raster(head):
            with rasterio.open(path) as dataset:
                bands, _ = _bands_of(dataset)
                return Form(3 if dataset.colorinterp[0] == ColorInterp.palette else len(bands), _stored_as(dataset))
        with Image.open(path, formats=["JPEG", "PNG", "WEBP"]) as image:
            return Form(1 if image.mode in ("1", "L", "LA") else 3, "uint8")
    except RasterioError as error:
        raise Unusable("damaged", str(error)) from None
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        raise Unusable("not an image") from None


def decode(data: bytes, at_least: int | None = None) -> Picture:
    """The pixels of a file's bytes, upright (EXIF orientation), as uint8 or uint16.

    Palettes and CMYK become red, green and blue; int16 is cut off at 0. A truncated file is never filled up.

    Args:
        at_least: a JPEG may come out smaller by a factor of 2, 4 or 8 as long as no side gets shorter than this.

    Raises:
        Unusable: not an image, truncated, damaged, or of a type that is not stored.
    """
    return _raster(data) if _is_raster(data) else _pillow(data, at_least)


def _is_raster(head: bytes) -> bool:
    depth = head[24:25] if head.startswith(PNG) else b""
    return head.startswith(RASTERS) or depth == b"\x10"


def _pillow(data: bytes, at_least: int | None) -> Picture:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            if at_least:
                image.draft(None, (at_least, at_least))
            return picture_from(image)
    except UnidentifiedImageError:
        raise Unusable("not an image") from None
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise Unusable("truncated or damaged", str(error)) from None


def picture_from(image: Image.Image) -> Picture:
    """The pixels of an image that Pillow has opened, upright, as uint8."""
    alpha = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA")
    upright = ImageOps.exif_transpose(image).convert(("LA" if grey else "RGBA") if alpha else "L" if grey else "RGB")
    pixels = np.atleast_3d(np.asarray(upright)).transpose(2, 0, 1)
    if not alpha:
        return Picture(pixels, None, alpha=False)
    valid = pixels[-1] > 0
    return Picture(pixels[:-1], None if valid.all() else valid, alpha=True)


def _raster(data: bytes) -> Picture:
    try:
        with rasterio.MemoryFile(data) as file, file.open() as dataset:
            _stored_as(dataset)
            bands, alpha = _bands_of(dataset)
            pixels = dataset.read(bands)
            masks = dataset.read_masks(bands) > 0
            palette = dataset.colormap(1) if dataset.colorinterp[0] == ColorInterp.palette else None
    except RasterioError as error:
        raise Unusable("truncated or damaged", str(error.__cause__ or error)) from None
    if palette:
        colours = np.array([palette.get(index, (0, 0, 0))[:3] for index in range(256)], dtype=np.uint8)
        pixels, masks = colours[pixels[0]].transpose(2, 0, 1), repeat(masks[0], "h w -> c h w", c=3)
    if pixels.dtype == np.int16:
        pixels = pixels.clip(0).astype(np.uint16)
    if masks.all():
        return Picture(pixels, None, alpha)
    # A band may lack data where others have it: it is 0 there, and the pixel still counts as data.
    return Picture(pixels * masks, masks.any(axis=0), alpha)


def _bands_of(dataset: rasterio.DatasetReader) -> tuple[list[int], bool]:
    bands = [band for band, role in zip(dataset.indexes, dataset.colorinterp, strict=True) if role != ColorInterp.alpha]
    return bands, len(bands) < dataset.count


def _stored_as(dataset: rasterio.DatasetReader) -> str:
    (dtype, *others) = sorted(set(dataset.dtypes))
    if others or dtype not in STORED_AS:
        raise Unusable("type of values", f"{' and '.join([dtype, *others])}; only uint8, uint16 and int16 are read")
    return STORED_AS[dtype]


def tile_from(data: bytes, form: Form, size: int, upscale: bool, nodata: float) -> Tile:
    """A file's bytes -> a tile, as ``tile_of`` makes it of the decoded picture.

    Raises:
        Unusable: with the reason.
    """
    return tile_of(decode(data, at_least=size), form, size, upscale, nodata)


def tile_of(picture: Picture, form: Form, size: int, upscale: bool, nodata: float) -> Tile:
    """A picture -> a tile of the given form: shorter side to ``size``, antialiased, then the centre.

    Args:
        upscale: enlarge pictures smaller than ``size`` pixels.
        nodata: share of pixels without data above which the picture is unusable.

    Raises:
        Unusable: with the reason.
    """
    pixels, valid, alpha = picture
    grey = len(pixels) == 1 and form.bands == 3
    if grey:
        pixels = repeat(pixels, "1 h w -> c h w", c=3)
    if len(pixels) != form.bands:
        raise Unusable("number of bands", f"{len(pixels)}, the data set has {form.bands}")
    if pixels.dtype != form.dtype:
        raise Unusable("type of values", f"{pixels.dtype} among tiles of {form.dtype}")
    height, width = pixels.shape[1:]
    if min(height, width) < size and not upscale:
        detail = f"{width} x {height} px, data.size is {size}: lower it, or set data.upscale: true"
        raise Unusable("smaller than data.size", detail)
    pixels, valid = _resized(pixels, valid, size)
    missing = 0.0 if valid is None else 1 - float(valid.mean())
    if missing > nodata:
        raise Unusable("nodata", f"{missing:.0%} of its pixels; data.nodata allows {nodata:.0%}")
    return Tile(pixels, missing, grey, alpha)


def place_of(data: bytes) -> Place | None:
    """Where a file lies, as the file itself says; None for one without a coordinate reference system."""
    if not _is_raster(data):
        return None
    with rasterio.MemoryFile(data) as file, file.open() as dataset:
        if not dataset.crs:
            return None
        column, row, (a, b, c, d, e, f) = dataset.width / 2, dataset.height / 2, dataset.transform[:6]
        x, y = a * column + b * row + c, d * column + e * row + f
        try:
            (longitude,), (latitude,) = transform(dataset.crs, "EPSG:4326", [x], [y])
        except (RasterioError, CPLE_BaseError):  # a local system, of some building site
            longitude = latitude = math.inf
        known = math.isfinite(longitude) and math.isfinite(latitude)
        degrees = (longitude, latitude) if known else (None, None)
        return Place(x, y, dataset.crs.to_string(), *degrees)


def _resized(
    pixels: UInt[np.ndarray, "c h w"], valid: Bool[np.ndarray, "h w"] | None, size: int
) -> tuple[UInt[np.ndarray, "c s s"], Bool[np.ndarray, "s s"] | None]:
    height, width = pixels.shape[1:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))

    def resize(values: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(values[None], shape, mode="bilinear", antialias=True)[0]

    if shape != (height, width) and valid is None and pixels.dtype == np.uint8:
        pixels = resize(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
    elif shape != (height, width):
        # Averages are taken over the pixels that hold data, so that nodata does not darken what it borders on.
        weight = torch.ones(1, height, width) if valid is None else torch.from_numpy(valid)[None].float()
        share = resize(weight)
        mean = resize(torch.from_numpy(pixels.astype(np.float32)) * weight) / share.clamp(min=1e-6)
        pixels = mean.round().numpy().astype(pixels.dtype)
        valid = None if valid is None else (share[0] >= 0.5).numpy()
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    centre = (slice(top, top + size), slice(left, left + size))
    if valid is None:
        return np.ascontiguousarray(pixels[:, *centre]), None
    return pixels[:, *centre] * valid[centre], valid[centre]
