"""Decoding: the bytes of a file -> a tile.

    c  bands     h w  pixels of a file     s  side of a tile

The first bytes of a file decide how it is read, not its name. rasterio reads TIFF, JPEG 2000 and 16-bit PNG
(``rasters``), NumPy an .npy, Pillow the rest. torchvision reads nothing here: its PNG decoder crashes the process on
some damaged files and takes the indices of a palette for colours. A JPEG is decoded at its full size: Pillow could
leave out the frequencies that a smaller tile cannot hold, in half the time, but by 1 to 4 levels of 255 it is another
resize.
"""

import io
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
from jaxtyping import Bool, Real, Shaped
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch import Tensor

from gcl_custom.arrays import NUMPY
from gcl_custom.counted import stated
from gcl_custom.imagery.collections.stacks import array_from
from gcl_custom.imagery.scenes.array_scenes import opened_array
from gcl_custom.imagery.scenes.opening import PNG, NoScene, driver_of, in_memory, opened
from gcl_custom.imagery.scenes.places import Place, place_of
from gcl_custom.imagery.scenes.rasters import crop, raster_form, raster_from, too_large
from gcl_custom.imagery.source import Window
from gcl_custom.imagery.values.forms import (
    NODATA,
    READ,
    UNREAD,
    Form,
    Picture,
    TileType,
    Unusable,
    missing,
    require_count,
)
from gcl_custom.imagery.values.pixels import chosen, picture_of, without_fill

__all__ = ["NODATA", "PNG", "UNREAD", "Form", "Picture", "Place", "Unusable", "place_of"]  # beside what stands here

SCENE = 16
"""From so many times the side of a tile on, a file counts as a scene."""


class Tile(NamedTuple):
    pixels: Real[np.ndarray, "c h w"]
    """Where there is no data they are ``missing``: 0 in unsigned types, and in others the lowest value."""
    nodata: float
    """Share of pixels without data in any band."""
    grey: bool
    """Whether one band was repeated to three."""
    alpha: bool
    """Whether an alpha band was dropped."""
    scene: bool
    """Whether the file is so large that it was not cut into tiles, it seems."""
    lacking: tuple[float, ...] = ()
    """Share of each band's values without data; empty if all hold some."""
    of: tuple[int, int] = (0, 0)
    """Width and height of the picture that it was made of."""


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


def form_of(path: Path, without: int | None = None) -> Form:
    """Read bands, their names and their type from a file's header.

    Args:
        without: number of a band, from 1, that is none of the tiles.

    Raises:
        Unusable: not an image, not to be opened, or of a type that is not stored.
    """
    with _header(path) as header:
        if isinstance(header, Image.Image):
            return Form(1 if header.mode in ("1", "L", "LA") else 3, "uint8")
        return raster_form(header, without)


def shorter_side(path: Path) -> int:
    """Read the shorter side of a file, in pixels, from its header; raises as ``form_of`` does."""
    with _header(path) as header:
        return min(header.width, header.height)


@contextmanager
def _header(path: Path) -> Iterator[rasterio.DatasetReader | Image.Image]:
    try:
        with path.open("rb") as file:
            head = file.read(32)
        driver = driver_of(head)
        if head.startswith(NUMPY):
            with opened_array(path) as array:
                yield array
            return
        with opened(path, driver) if driver else Image.open(path, formats=["JPEG", "PNG", "WEBP"]) as header:
            yield header
    except NoScene as problem:
        raise Unusable(problem.kind, problem.detail) from None
    except RasterioError as error:
        raise Unusable("damaged", str(error)) from None
    except Image.DecompressionBombError as error:
        raise too_large(error) from None
    except (UnidentifiedImageError, SyntaxError, ValueError, struct.error):
        raise Unusable("not an image") from None
    except OSError as error:
        raise Unusable(UNREAD, str(error.strerror)) if error.strerror else Unusable("not an image") from None


def form_in(data: bytes) -> Form:
    """The form of a file's bytes: by the header of a raster; others are decoded.

    Raises:
        Unusable: as ``decode``.
    """
    try:
        if driver_of(data):
            with in_memory(data) as dataset:
                return raster_form(dataset)
    except RasterioError as error:
        raise Unusable("damaged", str(error)) from None
    pixels = decode(data).pixels
    return Form(len(pixels), READ[pixels.dtype.name])


def decode(data: bytes, window: Window | None = None, form: Form | None = None) -> Picture:
    """Decode a file's bytes to pixels of uint8, uint16, int16 or float32, turned upright as EXIF or the TIFF says.

    Palettes and CMYK become red, green and blue. A truncated file is refused.

    Args:
        window: decode this part only. A raster is read there alone; other files are decoded whole, then cropped.
        form: of the data set; it says which bands to read. In a file with just as many bands, the last is a band even
            if the file calls it alpha, as files of red, green, blue and near infrared often do.

    Raises:
        Unusable: not an image, truncated, damaged, too large, of a type that is not stored, or the window leaves it.
    """
    if driver_of(data):
        return raster_from(data, window, form)
    return _pillow(data, form) if window is None else crop(_pillow(data, form), window)


def _pillow(data: bytes, form: Form | None) -> Picture:
    try:
        if data.startswith(NUMPY):
            return picture_of(array_from(data, list(READ)), form)
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            return picture_from(image, form)
    except UnidentifiedImageError:
        raise Unusable("not an image") from None
    except TypeError as error:
        raise Unusable("type of values", str(error)) from None
    except (Image.DecompressionBombError, MemoryError) as error:
        raise too_large(error) from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise Unusable("truncated or damaged", str(error)) from None


def picture_from(image: Image.Image, form: Form | None = None) -> Picture:
    """The pixels of an image that Pillow has opened, upright, as uint8.

    Args:
        form: of the data set, as in ``decode``.
    """
    alpha = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA")
    upright = ImageOps.exif_transpose(image).convert(("LA" if grey else "RGBA") if alpha else "L" if grey else "RGB")
    pixels = np.atleast_3d(np.asarray(upright)).transpose(2, 0, 1)
    if not alpha or (image.mode == "RGBA" and form is not None and form.of_file == 4):
        return without_fill(Picture(chosen(pixels, form), None, alpha=False), form)
    valid = pixels[-1] > 0
    return without_fill(Picture(chosen(pixels[:-1], form), None if valid.all() else valid, alpha=True), form)


def tile_from(data: bytes, form: Form, size: int, upscale: bool, nodata: float, window: Window | None = None) -> Tile:
    """Decode a file, or a window of it, and make a tile as ``tile_of`` does.

    Raises:
        Unusable: there is no such tile.
    """
    return tile_of(decode(data, window, form), form, size, upscale, nodata)


def tile_of(picture: Picture, form: Form, size: int, upscale: bool, nodata: float) -> Tile:
    """Make a tile of the given form: resize the shorter side to ``size`` (antialiased), crop the centre.

    Args:
        upscale: whether to enlarge what is smaller than ``size`` pixels.
        nodata: largest share of pixels without data.

    Raises:
        Unusable: there is no such tile.
    """
    pixels, masks = picture.pixels, picture.by_band
    if masks is None and picture.valid is not None:
        masks = picture.valid[None]
    grey = len(pixels) == 1 and form.bands == form.of_file == 3
    if grey:
        pixels = repeat(pixels, "1 h w -> c h w", c=3)
        masks = masks if masks is None else masks[:1]
    require_count(len(pixels), form.bands)
    pixels = _as_stored(pixels, form.dtype)
    height, width = pixels.shape[1:]
    scene = min(height, width) >= SCENE * size
    if min(height, width) < size and not upscale:
        detail = f"{width} x {height} px, data.size is {size}: lower it, or set data.upscale: true"
        raise Unusable("smaller than data.size", detail)
    pixels, masks = _resized(pixels, masks, size)
    if masks is None or masks.all():
        return Tile(pixels, 0.0, grey, picture.alpha, scene, of=(width, height))
    without = 1 - float(masks.any(axis=0).mean())
    if without > nodata:
        raise Unusable(NODATA, f"{without:.0%} of its pixels; data.nodata allows {stated(nodata)}")
    masks = np.broadcast_to(masks, pixels.shape)
    filled = np.where(masks, pixels, np.array(missing(form.dtype), dtype=form.dtype))
    lacking = tuple((1 - masks.mean(axis=(1, 2))).tolist())
    return Tile(filled, without, grey, picture.alpha, scene, lacking, (width, height))


def _as_stored(pixels: Real[np.ndarray, "c h w"], dtype: TileType) -> Real[np.ndarray, "c h w"]:
    """The same values in the type of the data set, which is the other one of 16 bits at most."""
    if pixels.dtype == dtype:
        return pixels
    if not {str(pixels.dtype), dtype} <= {"uint16", "int16"}:
        raise Unusable("type of values", f"{pixels.dtype} among tiles of {dtype}; save all files in one type")
    lowest, highest, limits = int(pixels.min()), int(pixels.max()), np.iinfo(dtype)
    if lowest < limits.min or highest > limits.max:
        raise Unusable("type of values", f"{lowest} to {highest} among tiles of {dtype}; save all files in one type")
    return pixels.astype(dtype)


def _tensor(values: Shaped[np.ndarray, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The same values. A decoder's own memory, which may not be written to, is copied, or torch would warn of it."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _resized(
    pixels: Real[np.ndarray, "c h w"], masks: Bool[np.ndarray, "#c h w"] | None, size: int
) -> tuple[Real[np.ndarray, "c s s"], Bool[np.ndarray, "#c s s"] | None]:
    height, width = pixels.shape[1:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))

    def resize(values: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(values[None], shape, mode="bilinear", antialias=True)[0]

    if shape != (height, width) and masks is None and pixels.dtype == np.uint8:
        pixels = resize(_tensor(pixels)).numpy()
    elif shape != (height, width):
        # Only values that hold data are averaged, so that nodata does not darken its neighbours.
        weight = torch.ones(1, height, width) if masks is None else _tensor(masks).float()
        share = resize(weight)
        mean = resize(torch.from_numpy(pixels.astype(np.float32)) * weight) / share.clamp(min=1e-6)
        pixels = (mean if pixels.dtype == np.float32 else mean.round()).numpy().astype(pixels.dtype)
        masks = None if masks is None else (share >= 0.5).numpy()
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    centre = (slice(top, top + size), slice(left, left + size))
    return np.ascontiguousarray(pixels[:, *centre]), None if masks is None else masks[:, *centre]
