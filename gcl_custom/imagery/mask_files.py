"""Masks: files with a class number in each pixel, of the same names and sizes as the images.

    h w  pixels of a file     s  side of a tile     n  tiles     c  classes

A mask is opened as an image is, by the one driver that its first bytes name, but its numbers are kept: those of a
palette, not its colours. It is resized with the nearest neighbour to where the tile's pixels come from, and cropped
like the tile. 255, negative values and what the file calls nodata are no class. Of scenes, masks are read where the
windows lie (``scenes.mask_windows``).
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import rasterio
import torch
from jaxtyping import Bool, Int, Integer, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError
from rasterio.errors import RasterioError
from torch import Tensor

from gcl_custom.console import plain, progress, warn
from gcl_custom.counted import stated
from gcl_custom.errors import UserError
from gcl_custom.files import file_digest, write_atomically, write_text
from gcl_custom.imagery.collections.open_collections import holding, state_of
from gcl_custom.imagery.decoding import Unusable
from gcl_custom.imagery.folders import FoundTile, Layout
from gcl_custom.imagery.left_out import in_kinds
from gcl_custom.imagery.read_tile import content_of, together, why_unread
from gcl_custom.imagery.scenes.mask_windows import masks_of_windows, open_mask
from gcl_custom.imagery.scenes.opening import NoScene, driver_of
from gcl_custom.imagery.scenes.rasters import MOST_VALUES, orientation_of, upright
from gcl_custom.imagery.scenes.remote import Remote, located
from gcl_custom.imagery.scenes.scene import open_scene
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import MASKS
from gcl_custom.imagery.values.mask_numbers import Mask, mask_of
from gcl_custom.measures.label_kind import NamedKind
from gcl_custom.measures.overlap import IGNORED
from gcl_custom.recipe.imagery import DataSettings

UNUSABLE = "unusable_masks.txt"
READ = "masks.read"
"""Masks as they were read, until ``put_in_use``: packing may still be refused, and then older ones stay."""
MOST_CLASSES = 64
"""Most different values in masks whose classes have no names: with more, they are pictures, it seems."""
BLOCK = 256
"""Masks, or runs of windows, that are in memory at a time."""


def decode_mask(data: bytes) -> Mask:
    """The numbers of a mask's file, upright.

    Raises:
        Unusable: not an image, damaged, of colours, compressed with loss, or with numbers beyond 255.
    """
    try:
        raster = driver_of(data)
        return mask_of(*(_raster(data, raster) if raster else _png(data)))
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


def read_mask(
    tile: FoundTile, root: Path, data: DataSettings, names: Sequence[str], size: tuple[int, int] | None = None
) -> Mask | Unusable:
    """The mask of a tile that is a file, on the tile's pixels, or why there is none.

    Args:
        size: width and height of the image, where they are known.
    """
    assert tile.label is not None, "the tile has a mask"
    try:
        mask = decode_mask(content_of(root, Source(tile.label)))
        height, width = mask.values.shape
        if (width, height) != (size := size or size_of(content_of(root, tile.source))):
            return Unusable("another size than its image", f"{width} x {height} px, the image {size[0]} x {size[1]}")
    except Unusable as problem:
        return problem
    return _on_tile(mask, data, names)


def read_window_masks(
    tiles: Sequence[FoundTile], root: Path, data: DataSettings, names: Sequence[str]
) -> list[Mask | Unusable]:
    """The same of windows of one scene, which is opened once, and so is its mask."""
    assert data.scenes is not None, "windows are of scenes"
    source, label = tiles[0].source, tiles[0].label
    assert label is not None, "the scene has a mask"
    windows = [tile.source.window for tile in tiles if tile.source.window]
    image, beside = (located(root, path, data.scenes) for path in (source.path, label))
    remote = beside if isinstance(beside, Remote) else None
    try:
        with open_scene(image, data.scenes) as scene, open_mask(beside) as mask:
            found = masks_of_windows(scene, mask, windows, remote)
    except (NoScene, RasterioError, OSError) as error:
        if remote and isinstance(error, RasterioError):
            raise remote.lost(error) from None
        found = [why_unread(error)] * len(windows)
    return [each if isinstance(each, Unusable) else _on_tile(each, data, names) for each in found]


def _on_tile(mask: Mask, data: DataSettings, names: Sequence[str]) -> Mask | Unusable:
    values = fitted(mask.values, data.size)
    beyond = values[(values >= len(names)) & (values != IGNORED)] if names else values[:0, 0]
    if len(beyond):
        return Unusable("class number", f"{beyond.max()}; the classes have the numbers 0 to {len(names) - 1}")
    return Mask(values, mask.hidden)


# ---------------------------------------------------------------- all labels of a layout


def labels_of(
    tiles: Sequence[FoundTile], classes: Sequence[str], kind: NamedKind
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes with a tile in the train split, and each tile's label among them, as it is stored."""
    taught = {name for tile in tiles if tile.split in (None, "train") for name in kind.names(tile.label)}
    kept = [name for name in classes if name in taught]
    return kept, kind.encode([tile.label for tile in tiles], kept)


def read_labels(
    root: Path, layout: Layout, tiles: Sequence[FoundTile], data: DataSettings, folder: Path | None = None,
    sizes: Mapping[Source, tuple[int, int]] = MappingProxyType({}),
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:  # fmt: skip
    """The classes of some of a layout's tiles, and each tile's label as it is stored. Masks are read for it, once.

    Args:
        folder: where the masks are kept, in the order of the tiles, until ``put_in_use``. Without it, they are only
            counted.
        sizes: width and height of images, as far as they are known; the others are opened for it.

    Raises:
        UserError: too many masks cannot be used, or they hold no class numbers, it seems.
    """
    if isinstance(layout.kind, NamedKind):
        return labels_of(tiles, layout.classes, layout.kind)
    counts = np.zeros((len(tiles), 256), dtype=np.int64)
    bad: dict[str, Unusable] = {}
    hidden = False
    runs = read_at_once(tiles)
    read = partial(_read_run, root=root, data=data, names=layout.classes, sizes=sizes)
    with ThreadPoolExecutor() as pool, progress(len(tiles), "reading masks", "masks") as bar:
        file = (folder / READ).open("wb") if folder else None
        place = 0
        while block := list(islice(runs, BLOCK)):
            for tile, mask in zip(chain(*block), chain.from_iterable(pool.map(read, block)), strict=True):
                values = np.full((data.size, data.size), IGNORED, dtype=np.uint8)
                if isinstance(mask, Unusable):
                    bad[str(Source(str(tile.label), tile.source.window))] = mask
                elif mask:
                    values, hidden = mask.values, hidden or mask.hidden
                    counts[place] = np.bincount(values.ravel(), minlength=256)
                if file:
                    file.write(values.tobytes())
                place += 1
            bar.advance(sum(map(len, block)))
        if file:
            file.close()
    _tell(root, bad, sum(tile.label is not None for tile in tiles), data, folder)
    classes, numbers = _classes(root, counts, layout.classes, hidden)
    if folder and numbers != list(range(len(numbers))):
        _renumber(folder / READ, numbers)
    return classes, torch.from_numpy(counts[:, numbers])


def read_at_once(tiles: Sequence[FoundTile]) -> Iterator[list[FoundTile]]:
    """Tiles whose masks are read at once: those of windows near one another, any other alone."""
    left = iter(tiles)
    for some in together([tile.source for tile in tiles]):
        yield list(islice(left, len(some)))


def _read_run(
    tiles: Sequence[FoundTile], root: Path, data: DataSettings, names: Sequence[str],
    sizes: Mapping[Source, tuple[int, int]],
) -> Sequence[Mask | Unusable | None]:  # fmt: skip
    first = tiles[0]
    if first.label is None or (data.scenes and first.source.window is None):
        return [None] * len(tiles)
    if data.scenes:
        return read_window_masks(tiles, root, data, names)
    return [read_mask(first, root, data, names, sizes.get(first.source))]


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


def put_in_use(folder: Path, kept: Bool[Tensor, " n"]) -> None:
    """Put the masks that were read, those of some of the tiles alone, in the place of older ones."""
    read = folder / READ
    if kept.all():
        read.replace(folder / MASKS)
        return
    masks = np.memmap(read, dtype=np.uint8, mode="r").reshape(len(kept), -1)
    with write_atomically(folder / MASKS, int(kept.sum()) * masks.shape[1]) as part, part.open("wb") as file:
        for number in torch.nonzero(kept).flatten().tolist():
            file.write(masks[number].tobytes())
    read.unlink()


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
            f"{root}: {len(bad):,} of {of:,} masks cannot be used ({kinds}); data.bad_files "
            f"allows {stated(data.bad_files)}.{shown}\nMend or remove them, or raise the limit; their tiles then have "
            f"no label. If they are no masks, set data.root to the folder of the images"
        )
    warn(f"{root}: {len(bad):,} of {of:,} masks cannot be used ({kinds}), so their tiles have no label:{shown}")


def mask_states(root: Path, layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of each mask's file, so that a changed one is noticed."""
    for label in dict.fromkeys(tile.label for tile in layout.tiles) if layout.kind.dense else ():
        if label is not None:
            inside = holding(root, label)
            yield (label, *state_of(inside.file_of(label) if inside else root / label))


def digest_of(folder: Path) -> str:
    """Digest of the masks that are kept in a folder; empty where there are none."""
    return file_digest(folder / MASKS) if (folder / MASKS).is_file() else ""
