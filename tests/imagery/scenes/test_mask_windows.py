"""Masks of scenes: each window's mask is the part of the scene's mask that lies there."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from made_scenes import NORTH_UP, grid_from, settings, values, write_scene
from PIL import Image
from rasterio import Affine

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.decoding import Unusable, reading
from gcl_custom.imagery.scenes.mask_windows import masks_of_windows, open_mask
from gcl_custom.imagery.scenes.scene import open_scene
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.imagery.values.mask_numbers import Mask
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings, SplitSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

WINDOWS = [(0, 0, 16, 16), (32, 16, 16, 16), (40, 44, 16, 16)]
PLAIN = ScenesSettings()


def numbers(height: int = 64, width: int = 64, classes: int = 3, cell: int = 1) -> np.ndarray:
    """Class numbers, the same in squares of so many pixels."""
    drawn = np.random.default_rng(1).integers(0, classes, (height // cell, width // cell))
    return drawn.repeat(cell, axis=0).repeat(cell, axis=1).astype(np.uint8)


def part(mask: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    column, row, width, height = window
    return mask[row : row + height, column : column + width]


def read(scene: Path, mask: Path, how: ScenesSettings = PLAIN) -> list[Mask | Unusable]:
    with reading(), open_scene(scene, how) as opened, open_mask(mask) as labels:
        return masks_of_windows(opened, labels, WINDOWS)


@pytest.mark.parametrize("stored", ["tif", "png", "palette.png", "npy", "without coordinates.tif", "3 bands.tif"])
def test_a_mask_of_the_same_sides_is_cut_like_its_scene(stored: str, tmp_path: Path) -> None:
    truth = numbers()
    write_scene(tmp_path / "a.tif", values(64, 64))
    path = tmp_path / f"mask.{stored}"
    if stored.endswith("png"):
        image = Image.fromarray(truth, mode="P" if "palette" in stored else "L")
        if "palette" in stored:
            image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(path)
    elif stored == "npy":
        np.save(path, truth)
    else:
        nowhere = {"crs": None, "transform": None} if "without" in stored else {}
        write_scene(path, np.stack([truth] * (3 if "3" in stored else 1)), **nowhere)
    for window, mask in zip(WINDOWS, read(tmp_path / "a.tif", path), strict=True):
        assert isinstance(mask, Mask)
        assert np.array_equal(mask.values, part(truth, window))
        assert not mask.hidden


def test_a_mask_with_coordinates_is_brought_onto_the_scene(tmp_path: Path) -> None:
    """Coarser, upside down and reaching further on one side, but ending in the last window."""
    truth = numbers(cell=4)
    write_scene(tmp_path / "a.tif", values(64, 64))
    coarse = truth[::4, ::4][:, :12]  # it ends after 48 of 64 columns
    down = Affine(40, 0, NORTH_UP.c, 0, 40, NORTH_UP.f - 640)
    write_scene(tmp_path / "mask.tif", coarse[None, ::-1], transform=down, tiled=None, blockxsize=None, blockysize=None)
    inner, middle, last = read(tmp_path / "a.tif", tmp_path / "mask.tif")
    for window, mask in zip(WINDOWS, (inner, middle), strict=False):
        assert isinstance(mask, Mask)
        assert np.array_equal(mask.values, part(truth, window))
    assert isinstance(last, Mask)
    assert np.array_equal(last.values[:, :8], part(truth, WINDOWS[2])[:, :8])
    assert (last.values[:, 8:] == 255).all()
    assert last.hidden


def test_a_scene_that_is_resampled_takes_its_mask_along(tmp_path: Path) -> None:
    """At half of the resolution each pixel takes the number that lies at its middle; the mask needs no coordinates."""
    truth = numbers(128, 128, cell=2)
    write_scene(tmp_path / "a.tif", values(128, 128))
    Image.fromarray(truth).save(tmp_path / "mask.png")
    for window, mask in zip(
        WINDOWS, read(tmp_path / "a.tif", tmp_path / "mask.png", ScenesSettings(metres=20)), strict=True
    ):
        assert isinstance(mask, Mask)
        assert np.array_equal(mask.values, part(truth[::2, ::2], window))


def test_pixels_without_a_class_become_255(tmp_path: Path) -> None:
    truth = numbers().astype(np.int16)
    truth[:8], truth[8:12], truth[20:22] = -1, 9, 255
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "mask.tif", truth[None], nodata=9)
    first, second, _ = read(tmp_path / "a.tif", tmp_path / "mask.tif")
    assert isinstance(first, Mask)
    assert isinstance(second, Mask)
    assert (first.values[:12] == 255).all()
    assert np.array_equal(first.values[12:], truth[12:16, :16])
    assert (first.hidden, second.hidden) == (True, False)
    assert (second.values[4:6] == 255).all()


def test_what_is_no_mask_says_why_window_by_window(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "small.tif", numbers(32, 32)[None], crs=None, transform=None)
    wrong = numbers().astype(np.uint16)
    wrong[50, 50] = 300
    write_scene(tmp_path / "numbers.tif", wrong[None])
    (detail,) = set(map(str, read(tmp_path / "a.tif", tmp_path / "small.tif")))
    assert detail.startswith("another size than its image (32 x 32 px, the scene 64 x 64 px; it has no coordinates")
    *good, bad = read(tmp_path / "a.tif", tmp_path / "numbers.tif")
    assert all(isinstance(mask, Mask) for mask in good)
    assert str(bad) == "class number (300; at most 254, and 255 for none)"


def test_a_block_that_is_damaged_costs_the_windows_that_lie_there(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "mask.tif", numbers()[None])
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        start, length = (int(dataset.get_tag_item(f"BLOCK_{what}_1_0", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    with (tmp_path / "mask.tif").open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * length)
    first, second, third = read(tmp_path / "a.tif", tmp_path / "mask.tif")
    assert isinstance(first, Mask)
    assert isinstance(second, Unusable)
    assert second.kind == "truncated or damaged"
    assert isinstance(third, Mask)


# ---------------------------------------------------------------- as packing and check see them


def pairs(root: Path, count: int = 3) -> dict[str, np.ndarray]:
    """Scenes with masks, the last of them without; of the first a quarter has no class."""
    masks = {}
    for number in range(count):
        name = f"{number}.tif"
        write_scene(root / "images" / name, values(64, 64, seed=number), transform=grid_from(NORTH_UP, 64 * number))
        if number < count - 1:
            masks[name] = np.random.default_rng(number).integers(0, 2, (64, 64)).astype(np.uint8)
            masks[name][:32, :32] = 255 if number == 0 else masks[name][:32, :32]
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(masks[name]).save((root / "masks" / name).with_suffix(".png"))
    return masks


def packed(tmp_path: Path, data: DataSettings) -> TileStore:
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path)


def test_windows_have_the_masks_of_their_scenes(tmp_path: Path) -> None:
    masks = pairs(tmp_path / "root")
    data = settings(tmp_path / "root", overlap=8, data_mask_classes=["ground", "water"], data_bad_files=0.0)
    store = packed(tmp_path, data)
    assert (store.kind.measure, store.classes) == ("mIoU", ["ground", "water"])
    kept = store.targets(torch.arange(store.count)).numpy()
    labelled = store.has_label.tolist()
    for number, source in enumerate(store.sources):
        assert source.window is not None
        truth = part(masks[name], source.window) if (name := source.path.removeprefix("images/")) in masks else None
        assert np.array_equal(kept[number], np.full((16, 16), 255) if truth is None else truth)
        assert labelled[number] == (truth is not None and bool((truth != 255).any()))
    assert 0 < sum(labelled) < 2 * 49  # four windows of the first scene lie where no pixel has a class
    found = survey(data)
    assert found.classes == store.classes
    assert torch.equal(found.labels, store.labels)
    assert torch.equal(found.split, store.split)


def test_masks_of_tiles_that_are_left_out_go_with_them(tmp_path: Path) -> None:
    """Windows overlap, so some lie beside another split."""
    masks = pairs(tmp_path / "root")
    store = packed(tmp_path, settings(tmp_path / "root", overlap=8, data_split=SplitSettings(by="blocks")))
    assert store.count < 3 * 49
    kept = store.targets(torch.arange(store.count)).numpy()
    for number, source in enumerate(store.sources):
        name = source.path.removeprefix("images/")
        assert source.window is not None
        if name in masks:
            assert np.array_equal(kept[number], part(masks[name], source.window))


def test_a_mask_that_cannot_be_opened_is_named_with_its_windows(tmp_path: Path) -> None:
    pairs(tmp_path / "root")
    (tmp_path / "root" / "masks" / "0.png").write_bytes(b"no mask")
    with pytest.raises(UserError, match=r"(?s)16 of 32 masks cannot be used \(16 no raster\).*masks/0\.png#0000000"):
        survey(settings(tmp_path / "root"))
    store = packed(tmp_path, settings(tmp_path / "root", data_bad_files=0.5))
    assert int(store.has_label.sum()) == 16


def test_names_of_classes_need_masks(tmp_path: Path) -> None:
    write_scene(tmp_path / "root" / "a.tif", values(64, 64))
    with pytest.raises(UserError, match=r"data\.mask_classes: no masks are found"):
        survey(settings(tmp_path / "root", data_mask_classes=["ground", "water"]))
