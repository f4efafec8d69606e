"""150 made folders, packed by the kit, against a slow reading of the same files with rasterio and Pillow."""

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import rasterio
import torch
from made_folders import SIZE, Made, make_folder
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

FOLDERS, BLOCKS = 150, 15


class Slow(NamedTuple):
    """Values of a tile, (c, s, s); those that two ways of rounding may decide differently are left out."""

    values: np.ndarray
    sure: np.ndarray


def slow_pixels(path: Path, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of a file, (c, h, w), and whether each holds data. Raises what the libraries raise."""
    if path.suffix.lower() in (".tif", ".tiff"):
        with rasterio.open(path) as dataset:
            pixels, masks = dataset.read(), dataset.read_masks() > 0
            assert len(set(dataset.dtypes)) == 1
            if dataset.colorinterp[-1] == ColorInterp.alpha and dataset.count != bands:
                pixels, masks = pixels[:-1], masks[:-1]
        below_zero = dataset.nodata is not None and dataset.nodata < 0
        return pixels, masks if below_zero else np.broadcast_to(masks.any(0), masks.shape)
    with Image.open(path) as image:
        image.load()
        turned = ImageOps.exif_transpose(image)
        rgba = np.asarray(turned.convert("RGBA"))
        colours = np.asarray(turned.convert("RGB"))
    return colours.transpose(2, 0, 1), np.broadcast_to(rgba[..., 3] > 0, (3, *rgba.shape[:2]))


def resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear, antialiased, in floats."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))


def slow_tile(path: Path, made: Made, nodata: float) -> Slow | str:
    """The tile, or which kind of file without one this is."""
    try:
        path.name.encode()
        pixels, valid = slow_pixels(path, made.bands)
    except (OSError, SyntaxError, ValueError, rasterio.errors.RasterioError):
        return "unusable"
    if len(pixels) == 1 and made.bands == 3:
        pixels, valid = pixels.repeat(3, axis=0), valid.repeat(3, axis=0)
    if len(pixels) != made.bands or pixels.dtype != made.dtype or min(valid.shape[1:]) < SIZE:
        return "unusable"
    height, width = valid.shape[1:]
    scale = SIZE / min(height, width)
    shape = (max(SIZE, round(height * scale)), max(SIZE, round(width * scale)))
    share = np.stack([resized(band, shape) for band in valid])
    sums = np.stack([resized(band * held, shape) for band, held in zip(pixels.astype(np.float64), valid, strict=True)])
    top, left = (shape[0] - SIZE) // 2, (shape[1] - SIZE) // 2
    centre = (slice(top, top + SIZE), slice(left, left + SIZE))
    share, bands = share[:, *centre], (sums / np.maximum(share, 1e-6))[:, *centre]
    if 1 - (share >= 0.5).any(0).mean() > nodata:
        return "nodata"
    return Slow(np.where(share >= 0.5, bands, np.iinfo(pixels.dtype).min), abs(share - 0.5) > 1e-3)


def expected(made: Made, data: DataSettings) -> tuple[dict[str, Slow], Counter[str]]:
    """The tiles by path, and the counts of files that have none."""
    found = {path: slow_tile(made.root / path, made, data.nodata) for path in made.truth}
    tiles = {path: tile for path, tile in found.items() if isinstance(tile, Slow)}
    return tiles, Counter(kind for kind in found.values() if isinstance(kind, str))


def check_splits(store: TileStore, made: Made, tiles: dict[str, Slow]) -> None:
    """Given splits are kept; others are drawn from the rest, by the recipe's shares in each class."""
    given = {made.truth[path][0] for path in made.truth} - {None}
    drawn = [name for name in ("train", "valid", "test") if name not in given]
    codes = dict(zip([source.path for source in store.sources], store.split.tolist(), strict=True))
    names = {path: ("train", "valid", "test")[code] for path, code in codes.items()}
    for path in tiles:
        split = made.truth[path][0]
        assert names[path] == split or (split in (None, "train") and names[path] in ("train", *drawn))
    if made.several:
        return
    shares = {"train": 0.7, "valid": 0.15, "test": 0.15}
    among = {name: shares[name] for name in ("train", *drawn)}
    members: dict[str | None, list[str]] = {}
    for path in tiles:
        if made.truth[path][0] in (None, "train"):
            label = made.truth[path][1]
            members.setdefault(label if label in store.classes else None, []).append(path)
    for paths in members.values():
        counts = Counter(names[path] for path in paths)
        for name, share in among.items():
            wanted = len(paths) * share / sum(among.values())
            if len(paths) < len(among):
                assert counts[name] == (len(paths) if name == "train" else 0)
            else:
                assert max(1, math.floor(wanted) - 1) <= counts[name] <= max(1, math.ceil(wanted) + 1)


def compare(made: Made, folder: Path, look: bool) -> None:
    data = DataSettings(root=str(made.root), size=SIZE, labels=made.table, bad_files=0.9, nodata_files=0.9)
    with reading():
        tiles, without = expected(made, data)
    run = Run(folder / "run", Recipe(name="run", data=data))
    pack_tiles(run)
    store, facts = TileStore(plan.tiles(run).path), plan.tiles(run).facts
    paths = [source.path for source in store.sources]
    assert paths == sorted(tiles)
    assert (facts["unusable"], facts["nodata"]) == (without["unusable"], without["nodata"])
    assert (store.bands, store.dtype) == (made.bands, made.dtype)

    for number, path in enumerate(paths):
        pixels = store.read(torch.tensor([number]))[0].numpy().astype(np.float64)
        difference = np.abs(pixels - tiles[path].values)[tiles[path].sure]
        assert difference.max(initial=0) <= 1, path

    labels = {path: set(label.split(";")) if made.several and label else {label} - {None}
              for path, (_, label) in made.truth.items()}  # fmt: skip
    taught = [path for path in tiles if made.truth[path][0] in (None, "train")]
    assert store.classes == sorted(set().union(*(labels[path] for path in taught)))
    for number, path in enumerate(paths):
        row = store.labels[number]
        told = (
            {store.classes[i] for i in row.nonzero().flatten()}
            if row.ndim
            else {store.classes[int(row)]}
            if row >= 0
            else set()
        )
        assert told == labels[path] & set(store.classes), path
    check_splits(store, made, tiles)

    alike: dict[str, set[int]] = {}
    for path, code in zip(paths, store.split.tolist(), strict=True):
        alike.setdefault(hashlib.sha256((made.root / path).read_bytes()).hexdigest(), set()).add(code)
    twins = sum(len(alike[hashlib.sha256((made.root / path).read_bytes()).hexdigest()]) > 1 for path in paths)
    assert facts["duplicates_across_splits"] == twins
    if look:
        seen = survey(data)
        assert torch.equal(seen.split, store.split)
        assert seen.classes == store.classes
        assert torch.equal(seen.labels, store.labels)
    if bad := without["unusable"]:
        strict = data.model_copy(update={"bad_files": (bad - 0.5) / len(made.truth)})
        with pytest.raises(UserError, match=rf"{bad} of {len(made.truth)} files (is|are) unusable"):
            pack_tiles(Run(folder / "strict", Recipe(name="run", data=strict)))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_made_folder_is_packed_as_a_slow_reading_has_it(block: int, tmp_path: Path) -> None:
    for seed in range(block, FOLDERS, BLOCKS):
        place = tmp_path / str(seed)
        place.mkdir()
        try:
            compare(make_folder(place / "root", seed), place, look=seed % 4 == 0)
        except Exception as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem
