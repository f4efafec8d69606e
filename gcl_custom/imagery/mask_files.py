"""Masks: files with a class number in each pixel, of the same names and sizes as the images.

    h w  pixels of a file     s  side of a tile     n  tiles     c  classes

A mask is opened as an image is, by the one driver that its first bytes name, but its numbers are kept: those of a
palette, not its colours. It is resized with the nearest neighbour to where the tile's pixels come from, and cropped
like the tile. 255, negative values and what the file calls nodata are no class.
"""

import hashlib
import io
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import torch
from jaxtyping import Bool, Int, Integer, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from rasterio.errors import RasterioError
from torch import Tensor

from gcl_custom.console import plain, progress, warn
from gcl_custom.errors import UserError
from gcl_custom.files import write_atomically, write_text
from gcl_custom.imagery.collections.open_collections import holding, state_of
from gcl_custom.imagery.decoding import Unusable
from gcl_custom.imagery.folders import FoundTile, Layout
from gcl_custom.imagery.left_out import in_kinds
from gcl_custom.imagery.read_tile import content_of
from gcl_custom.imagery.scenes.opening import driver_of
from gcl_custom.imagery.scenes.rasters import MOST_VALUES, orientation_of, upright
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.tile_store import MASKS
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.overlap import IGNORED
from gcl_custom.recipe.imagery import DataSettings

UNUSABLE = "unusable_masks.txt"
MOST_CLASSES = 64
"""Most different values in masks whose classes have no names: with more, they are pictures, it seems."""
BLOCK = 256
"""Masks that are in memory at a time."""


class Mask(NamedTuple):
    values: UInt8[np.ndarray, "h w"]
    """As in the file; 255 also where it has no class."""
    hidden: bool
    """Whether something other than a 255 of the file says so of a pixel."""


def decode_mask(data: bytes) -> Mask:
    """The numbers of a mask's file, upright.

    Raises:
        Unusable: not an image, damaged, of colours, compressed with loss, or with numbers beyond 255.
    """
    try:
        raster = driver_of(data)
        return _of_numbers(*(_raster(data, raster) if raster else _png(data)))
    except RasterioError as error:
        raise Unusable("truncated or damaged", str(error.__cause__ or error)) from None
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, MemoryError) as error:
        raise Unusable("truncated or damaged", str(error)) from None


def _png(data: bytes) -> tuple[Integer[np.ndarray, "c h w"], None]:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            if image.format != "PNG":
                raise Unusable("no PNG or TIFF", f"{image.format} changes numbers when it is saved: take PNG or TIFF")
            pixels = np.asarray(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise Unusable("not an image") from None
    return (pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)).astype(np.int32), None


def _raster(data: bytes, driver: str) -> tuple[Shaped[np.ndarray, "c h w"], Shaped[np.ndarray, "h w"] | None]:
    with rasterio.MemoryFile(data) as file, file.open(driver=driver) as dataset:
        if dataset.width * dataset.height * dataset.count > MOST_VALUES:
            raise Unusable("too large", f"{dataset.width:,} x {dataset.height:,} px")
        values = dataset.read()
        valid = None if dataset.nodata in (None, IGNORED) else values[0] != dataset.nodata
    turn = orientation_of(data)
    return upright(values, turn), None if valid is None else upright(valid[None], turn)[0]


def _of_numbers(values: Shaped[np.ndarray, "c h w"], valid: Shaped[np.ndarray, "h w"] | None) -> Mask:
    if len(values) in (2, 4) and (values[-1] == np.iinfo(np.uint8).max).all():  # an alpha band that hides nothing
        values = values[:-1]
    if not np.array_equal(values, np.broadcast_to(values[:1], values.shape), equal_nan=True):
        raise Unusable("colours", f"{len(values)} bands that differ; a mask has one, with a class number a pixel")
    numbers = values[0]
    if numbers.dtype.kind == "f":
        hidden = np.isnan(numbers)
        if not (hidden | (numbers == np.round(numbers))).all():
            raise Unusable("type of values", "fractions; a mask holds whole class numbers")
        numbers = np.where(hidden, -1, numbers)
    hidden = numbers < 0 if valid is None else (numbers < 0) | ~valid
    if (largest := int(numbers.max(initial=0, where=~hidden))) > IGNORED:
        raise Unusable("class number", f"{largest}; at most 254, and 255 for none")
    return Mask(np.where(hidden, IGNORED, numbers).astype(np.uint8), bool(hidden.any()))


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an image, upright, from its header.

    Raises:
        Unusable: it is none with a header.
    """
    try:
        turned = orientation_of(data) >= 5
        driver = driver_of(data)
        if driver:
            with rasterio.MemoryFile(data) as file, file.open(driver=driver) as dataset:
                width, height = dataset.width, dataset.height
        else:
            with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
                (width, height), turned = image.size, image.getexif().get(0x0112, 1) >= 5
    except (RasterioError, OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise Unusable("image has no size", str(error)) from None
    return (height, width) if turned else (width, height)


def fitted(values: Shaped[np.ndarray, "h w"], size: int) -> Shaped[np.ndarray, "s s"]:
    """A mask on the pixels of its tile: each takes the nearest value to the middle of where it comes from.

    ``decoding.tile_of`` resizes the shorter side to ``size`` and crops the centre; so does this.
    """
    height, width = values.shape
    scale = size / min(height, width)
    picked = []
    for length in (height, width):
        whole = max(size, round(length * scale))
        first = (whole - size) // 2
        picked.append(((np.arange(first, first + size) + 0.5) * length / whole).astype(np.int64).clip(0, length - 1))
    return np.ascontiguousarray(values[np.ix_(*picked)])


def read_mask(tile: FoundTile, root: Path, data: DataSettings, names: Sequence[str]) -> Mask | Unusable:
    """The mask of a tile, on the tile's pixels, or why there is none."""
    assert tile.label is not None
    try:
        mask = decode_mask(content_of(root, Source(tile.label)))
        height, width = mask.values.shape
        if (width, height) != (size := size_of(content_of(root, Source(tile.source.path)))):
            return Unusable("another size than its image", f"{width} x {height} px, the image {size[0]} x {size[1]}")
    except Unusable as problem:
        return problem
    values = fitted(_part(mask.values, tile.source.window), data.size)
    beyond = values[(values >= len(names)) & (values != IGNORED)] if names else values[:0, 0]
    if len(beyond):
        return Unusable("class number", f"{beyond.max()}; the classes have the numbers 0 to {len(names) - 1}")
    return Mask(values, mask.hidden)


def _part(values: Shaped[np.ndarray, "h w"], window: Window | None) -> Shaped[np.ndarray, "_ _"]:
    return values if window is None else values[slice(*window.ends[0]), slice(*window.ends[1])]


# ---------------------------------------------------------------- all labels of a layout


def labels_of(
    tiles: Sequence[FoundTile], classes: Sequence[str], kind: LabelKind
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes with a tile in the train split, and each tile's label among them, as it is stored."""
    taught = {name for tile in tiles if tile.split in (None, "train") for name in kind.names(tile.label)}
    kept = [name for name in classes if name in taught]
    return kept, kind.encode([tile.label for tile in tiles], kept)


def read_labels(
    root: Path, layout: Layout, tiles: Sequence[FoundTile], data: DataSettings, folder: Path | None = None
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes of some of a layout's tiles, and each tile's label as it is stored. Masks are read for it, once.

    Args:
        folder: where the masks are kept, in the order of the tiles. Without it, they are only counted.

    Raises:
        UserError: too many masks cannot be used, or they hold no class numbers, it seems.
    """
    if not layout.kind.dense:
        return labels_of(tiles, layout.classes, layout.kind)
    counts = np.zeros((len(tiles), 256), dtype=np.int64)
    bad: dict[str, Unusable] = {}
    hidden = False
    read = partial(_read_block, root=root, data=data, names=layout.classes)
    with ThreadPoolExecutor() as pool, progress(len(tiles), "reading masks", "masks") as bar:
        file = (folder / MASKS).open("wb") if folder else None
        for start in range(0, len(tiles), BLOCK):
            block = tiles[start : start + BLOCK]
            for place, (tile, mask) in enumerate(zip(block, pool.map(read, block), strict=True), start):
                values = np.full((data.size, data.size), IGNORED, dtype=np.uint8)
                if isinstance(mask, Unusable):
                    bad[str(tile.label)] = mask
                elif mask:
                    values, hidden = mask.values, hidden or mask.hidden
                    counts[place] = np.bincount(values.ravel(), minlength=256)
                if file:
                    file.write(values.tobytes())
            bar.advance(len(block))
        if file:
            file.close()
    _tell(root, bad, sum(tile.label is not None for tile in tiles), data, folder)
    classes, numbers = _classes(root, counts, layout.classes, hidden)
    if folder and numbers != list(range(len(numbers))):
        _renumber(folder / MASKS, numbers)
    return classes, torch.from_numpy(counts[:, numbers])


def _read_block(tile: FoundTile, root: Path, data: DataSettings, names: Sequence[str]) -> Mask | Unusable | None:
    return None if tile.label is None else read_mask(tile, root, data, names)


def _classes(
    root: Path, counts: Int[np.ndarray, "n 256"], names: Sequence[str], hidden: bool
) -> tuple[list[str], list[int]]:
    """The names of the classes, and the value of each in the files."""
    found = np.flatnonzero(counts.sum(0)).tolist()
    if set(found) == {0, IGNORED} and not hidden and len(names) in (0, 2):
        warn(f"{root}: masks hold 0 and 255 only, so 255 is a class here")
        return list(names) or ["0", "255"], [0, IGNORED]
    if names:
        return list(names), list(range(len(names)))
    values = [value for value in found if value != IGNORED]
    if len(values) > MOST_CLASSES:
        raise UserError(
            f"{root}: the masks hold {len(values)} different values. A mask holds a class number a pixel: are these "
            f"pictures, or smoothed? If the values are classes, name them: data.mask_classes"
        )
    return [str(value) for value in values], values


def _renumber(path: Path, values: Sequence[int]) -> None:
    """Put class numbers in place of the values of the files."""
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[list(values)] = np.arange(len(values))
    pixels = np.memmap(path, dtype=np.uint8, mode="r+")
    for start in range(0, len(pixels), step := 2**24):
        pixels[start : start + step] = table[pixels[start : start + step]]
    pixels.flush()


def keep_masks(folder: Path, kept: Bool[np.ndarray, " n"]) -> None:
    """Keep the masks of some tiles alone, where there are any."""
    path = folder / MASKS
    if not path.is_file():
        return
    masks = np.memmap(path, dtype=np.uint8, mode="r").reshape(len(kept), -1)
    with write_atomically(path, int(kept.sum()) * masks.shape[1]) as part, part.open("wb") as file:
        for number in np.flatnonzero(kept):
            file.write(masks[number].tobytes())


def _tell(root: Path, bad: dict[str, Unusable], of: int, data: DataSettings, folder: Path | None) -> None:
    """Name the masks that cannot be used. Their tiles have no label.

    Raises:
        UserError: there are too many.
    """
    lines = [f"{plain(name)}\t{problem}" for name, problem in sorted(bad.items())]
    if folder:
        write_text(folder / UNUSABLE, "".join(f"{line}\n" for line in lines))
    if not bad:
        return
    shown = "".join(f"\n  {line}".replace("\t", ": ") for line in lines[:5])
    kinds = in_kinds(problem.kind for problem in bad.values())
    if len(bad) > data.bad_files * of:
        raise UserError(
            f"{root}: {len(bad):,} of {of:,} masks cannot be used ({kinds}); data.bad_files allows "
            f"{data.bad_files:.0%}.{shown}\nMend or remove them, or raise the limit; their tiles then have no label. "
            f"If they are no masks, set data.root to the folder of the images"
        )
    warn(f"{root}: {len(bad):,} of {of:,} masks cannot be used ({kinds}), so their tiles have no label:{shown}")


def mask_states(root: Path, layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of each mask's file, so that a changed one is noticed."""
    for tile in layout.tiles if layout.kind.dense else ():
        if tile.label is not None:
            inside = holding(root, tile.label)
            yield (tile.label, *state_of(inside.file_of(tile.label) if inside else root / tile.label))


def digest_of(folder: Path) -> str:
    """Digest of the masks that are kept in a folder; empty where there are none."""
    if not (folder / MASKS).is_file():
        return ""
    with (folder / MASKS).open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
