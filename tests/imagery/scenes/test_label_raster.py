from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from made_scenes import NORTH_UP, settings, values, write_scene
from rasterio import Affine
from rasterio.warp import Resampling, reproject

from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.scenes.label_raster import RasterLabels, Shares
from gcl_custom.imagery.scenes.scene import open_raster, open_scene

WINDOWS = [(column, row, 16, 16) for row in range(0, 64, 16) for column in range(0, 64, 16)]


def classes(side: int = 64, seed: int = 1) -> np.ndarray:
    """Patches of 10 px of the classes 0 to 3, of 255 and of 9."""
    few = np.random.default_rng(seed).choice([0, 1, 2, 3, 9, 255], (side // 10 + 1, side // 10 + 1))
    return np.kron(few, np.ones((10, 10)))[:side, :side].astype(np.uint8)


def shares(
    folder: Path, names: list[str] | None = None, ignore: tuple[int, ...] = (255,), **scenes: Any
) -> list[Shares] | None:
    data = settings(folder, **scenes)
    assert data.scenes is not None
    with reading(), open_raster(folder / "labels.tif") as dataset, open_scene(folder / "a.tif", data.scenes) as scene:
        return RasterLabels(dataset, "labels.tif", names or [], ignore).shares(scene, WINDOWS)


def counted(numbers: np.ndarray, none: list[int]) -> list[dict[str, float]]:
    """By hand."""
    parts = [numbers[row : row + height, column : column + width] for column, row, width, height in WINDOWS]
    return [
        {str(value): float((part == value).mean()) for value in sorted(set(part.ravel().tolist()) - set(none))}
        for part in parts
    ]


@pytest.mark.parametrize("located", [True, False])
def test_shares_are_those_of_counted_pixels(located: bool, tmp_path: Path) -> None:
    """Also where neither scene nor raster has coordinates, if they have the same sides."""
    numbers, options = classes(), {} if located else {"crs": None, "transform": None}
    write_scene(tmp_path / "a.tif", values(64, 64), **options)
    write_scene(tmp_path / "labels.tif", numbers[None], nodata=9, **options)
    assert shares(tmp_path) == counted(numbers, [9, 255])
    assert shares(tmp_path, ignore=()) == counted(numbers, [9])


def test_a_raster_of_another_grid_is_read_at_the_pixels_of_the_scene(tmp_path: Path) -> None:
    """In degrees at 3 times the resolution, over a part of the scene: GDAL brings the whole onto the scene's grid."""
    write_scene(tmp_path / "a.tif", values(64, 64))
    numbers = classes(200, seed=3).astype(np.int16)
    grid = Affine(4.5e-5, 0, 15.0009, 0, -3e-5, 49.6505)
    write_scene(tmp_path / "labels.tif", numbers[None], crs="EPSG:4326", transform=grid, nodata=9)
    truth = np.full((64, 64), -1, np.int16)
    reproject(
        numbers, truth, src_transform=grid, src_crs="EPSG:4326", src_nodata=None, dst_transform=NORTH_UP,
        dst_crs="EPSG:32633", dst_nodata=-1, resampling=Resampling.nearest,
    )  # fmt: skip
    assert (truth == -1).any()
    found = shares(tmp_path)
    assert found is not None
    for share, by_hand in zip(found, counted(truth, [-1, 9, 255]), strict=True):
        assert share == pytest.approx(by_hand, abs=1.5 / 256)  # a pixel on an edge
    assert sum(map(len, found)) > 20


def test_a_raster_without_coordinates_says_nothing_of_a_scene_of_other_sides(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "labels.tif", classes(48)[None], crs=None, transform=None)
    assert shares(tmp_path) is None


def test_numbers_have_the_names_of_the_recipe(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "labels.tif", np.full((1, 64, 64), 1, np.uint8))
    assert shares(tmp_path, ["dry", "wet"]) == [{"wet": 1.0}] * 16
    with pytest.raises(UserError, match=r"labels.tif holds 1; classes have the numbers 0 to 0. Name it in data"):
        shares(tmp_path, ["dry"])


@pytest.mark.parametrize(("bands", "dtype"), [(3, "uint8"), (1, "float32")])
def test_what_is_no_raster_of_labels_is_refused(bands: int, dtype: str, tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "labels.tif", np.ones((bands, 64, 64), dtype))
    with pytest.raises(UserError, match=f"has {bands} bands? of {dtype}. A raster of labels has one band"):
        shares(tmp_path)


def test_a_damaged_raster_is_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_scene(tmp_path / "labels.tif", values(64, 64)[:1])
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        start, length = (int(dataset.get_tag_item(f"BLOCK_{what}_1_1", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    with (tmp_path / "labels.tif").open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * length)
    with pytest.raises(UserError, match=r"labels.tif is damaged"):
        shares(tmp_path)
