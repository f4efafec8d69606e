import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from made_scenes import NORTH_UP, values, write_scene

from gcl_custom.imagery.decoding import Form, reading
from gcl_custom.imagery.scenes import rasters, scene
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.scenes.scene import open_scene
from gcl_custom.imagery.values.forms import Choice
from gcl_custom.recipe.imagery import CloudSettings, ScenesSettings

PLAIN = ScenesSettings()


def why(path: Path, settings: ScenesSettings = PLAIN) -> NoScene:
    with reading(), pytest.raises(NoScene) as refusal, open_scene(path, settings) as found:
        found.windows(16, 0)
    return refusal.value


def clouds(**about: object) -> ScenesSettings:
    return ScenesSettings(cloud=CloudSettings(**{"values": [3, 9], **about}))


def test_windows_are_in_the_order_of_the_blocks_of_the_file(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 96), blockxsize=32, blockysize=64)
    with open_scene(tmp_path / "a.tif", PLAIN) as found:
        blocks = [column // 32 for column, *_ in found.windows(16, 0)]
    assert blocks == sorted(blocks)


def test_what_is_no_raster_says_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("<VRTDataset></VRTDataset>")
    assert why(tmp_path / "a.tif").kind == "no raster"
    assert "rio convert" in why(tmp_path / "a.tif").detail


@pytest.mark.parametrize(("width", "height"), [(1, 1), (100, 15)])
def test_a_scene_smaller_than_a_window_is_none(width: int, height: int, tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(height, width), tiled=False, blockxsize=None, blockysize=None)
    assert str(why(tmp_path / "a.tif")).startswith(f"smaller than a window ({width} x {height} px")


def test_a_truncated_scene_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Its header is whole, as that of a cloud-optimised file of which only the first part was fetched."""
    write_scene(tmp_path / "whole.tif", values(256, 256))
    shutil.copy(tmp_path / "whole.tif", tmp_path / "a.tif")
    with (tmp_path / "a.tif").open("r+b") as file:
        file.truncate((tmp_path / "whole.tif").stat().st_size - 100)
    refused = why(tmp_path / "a.tif")
    assert (refused.kind, refused.detail.split(" ends")[0]) == ("truncated or damaged", "its last block")


def test_blocks_that_hold_a_whole_scene_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "LARGEST_BLOCK", 256 * 256)
    strips = {"tiled": False, "blockxsize": None, "compress": "deflate", "interleave": "pixel"}
    write_scene(tmp_path / "a.tif", values(256, 256), **strips, blockysize=256)
    refused = why(tmp_path / "a.tif")
    assert refused.kind == "blocks too large"
    assert "256 x 256 px" in refused.detail
    write_scene(tmp_path / "b.tif", values(256, 256), **strips, blockysize=64)
    with open_scene(tmp_path / "b.tif", PLAIN) as found:
        assert len(found.windows(16, 0)) == 256


def test_a_scene_of_too_many_windows_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.grid, "MOST_WINDOWS", 15)
    write_scene(tmp_path / "a.tif", values(64, 64))
    assert why(tmp_path / "a.tif").kind == "too large"


@pytest.mark.parametrize("where", ["band", "file", "coarse file", "turned file"])
def test_clouds_are_where_the_mask_says_so(where: str, tmp_path: Path) -> None:
    """Also in a mask of half the resolution, and in one that is stored another way round."""
    pixels, mask = values(64, 64), np.random.default_rng(1).choice([0, 3, 5, 9], (32, 32)).repeat(2, 0).repeat(2, 1)
    mask = mask.astype(np.uint16)[None]
    write_scene(tmp_path / "a.tif", np.concatenate([pixels, mask]) if where == "band" else pixels)
    if where == "file":
        write_scene(tmp_path / "a_clouds.tif", mask)
    if where == "coarse file":
        coarse = rasterio.Affine(20, 0, NORTH_UP.c, 0, -20, NORTH_UP.f)
        write_scene(tmp_path / "a_clouds.tif", mask[:, ::2, ::2], transform=coarse)
    if where == "turned file":
        down = rasterio.Affine(20, 0, NORTH_UP.c, 0, 20, NORTH_UP.f - 640)
        write_scene(tmp_path / "a_clouds.tif", mask[:, ::2, ::2][:, ::-1], transform=down)
    settings = clouds(band=3) if where == "band" else clouds(file="_clouds.tif")
    with open_scene(tmp_path / "a.tif", settings) as found:
        cloudy = found.cloudy((16, 8, 32, 40))
    assert cloudy is not None
    assert np.array_equal(cloudy, np.isin(mask[0, 8:48, 16:48], [3, 9]))


def test_a_band_of_clouds_hides_nothing_though_the_file_calls_it_alpha(tmp_path: Path) -> None:
    """GDAL calls the fourth band of a picture alpha unless it is told otherwise."""
    pixels = np.concatenate([values(32, 32, 3) % 200 + 1, np.zeros((1, 32, 32))]).astype(np.uint8)
    write_scene(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    three, of_four = Form(3, "uint8"), Form(3, "uint8", choice=Choice((1, 2, 3), 4, None))
    for form, without, shown in ((three, 4, True), (of_four, None, True), (three, None, False)):
        with reading(), rasterio.open(tmp_path / "a.tif") as dataset:
            assert dataset.colorinterp[3].name == "alpha"
            picture = rasters.read_raster(dataset, None, form, without)
        assert (picture.valid is None) == shown


def test_a_mask_of_clouds_without_coordinates_lies_where_its_resampled_scene_does(tmp_path: Path) -> None:
    mask = np.zeros((1, 64, 64), dtype=np.uint16)
    mask[:, :32] = 3
    write_scene(tmp_path / "a.tif", values(64, 64))
    with reading():
        write_scene(tmp_path / "a_clouds.tif", mask, crs=None, transform=rasterio.Affine.identity())
    settings = clouds(file="_clouds.tif").model_copy(update={"metres": 20.0})
    with reading(), open_scene(tmp_path / "a.tif", settings) as found:
        cloudy = found.cloudy((0, 0, 32, 32))
    assert cloudy is not None
    assert cloudy[:16].all()
    assert not cloudy[16:].any()


def test_a_mask_that_is_not_there_or_does_not_fit_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 64))
    assert "a_clouds.tif: No such file" in why(tmp_path / "a.tif", clouds(file="_clouds.tif")).detail
    assert why(tmp_path / "a.tif", clouds(band=3)).detail == "data.scenes.cloud.band is 3; it has 2 bands"
    (tmp_path / "a_clouds.tif").write_text("no raster")
    assert "a_clouds.tif: no raster" in why(tmp_path / "a.tif", clouds(file="_clouds.tif")).detail
    with reading():
        write_scene(tmp_path / "a_clouds.tif", values(32, 32, 1), crs=None, transform=rasterio.Affine.identity())
    assert "no coordinates" in why(tmp_path / "a.tif", clouds(file="_clouds.tif")).detail
