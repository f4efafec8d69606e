"""The windows of a scene for a map: each once, in strips, and what each is cut from."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from made_scenes import NORTH_UP, grid_from, settings, values, write_scene

from gcl_custom.imagery.decoding import Unusable, reading
from gcl_custom.imagery.read_tile import cut, read_all
from gcl_custom.imagery.values.forms import Form
from gcl_custom.maps.scene_windows import SceneWindows, Seen, for_maps
from gcl_custom.recipe.imagery import CloudSettings

FORM = Form(2, "uint16")


def strips(scene: SceneWindows) -> list[tuple[list[Seen], int | None]]:
    with reading():
        return [(list(windows), following) for windows, following in scene.strips(FORM)]


@pytest.mark.parametrize("tall", [16, 512, 2048])
def test_each_window_is_read_once_and_no_strip_reaches_above_where_it_begins(tmp_path: Path, tall: int) -> None:
    pixels = values(700, 90)
    write_scene(tmp_path / "a.tif", pixels, blockxsize=16, blockysize=tall)
    scene = SceneWindows.of(tmp_path, "a.tif", for_maps(settings(tmp_path)), 10)
    found = strips(scene)
    assert len(found) == {16: 3, 512: 2, 2048: 1}[tall]
    seen = [one for windows, _ in found for one in windows]
    corners = [(one.source.window.row, one.source.window.column) for one in seen if one.source.window]
    expected = {(row, column) for row in (*range(0, 684, 10), 684) for column in (*range(0, 74, 10), 74)}
    assert len(corners) == len(expected) == scene.count
    assert set(corners) == expected
    for one, (row, column) in zip(seen, corners, strict=True):
        np.testing.assert_array_equal(one.pixels, pixels[:, row : row + 16, column : column + 16])
    for (windows, _), following in zip(found[1:], [following for _, following in found], strict=False):
        assert min(one.source.window.row for one in windows if one.source.window) == following
    assert found[-1][1] is None


def test_a_training_s_windows_give_the_same_tiles(tmp_path: Path) -> None:
    """Of another side than the tile, which is then resized."""
    write_scene(tmp_path / "a.tif", values(96, 96), nodata=0)
    data = settings(tmp_path, tile=32)
    with reading():
        trained = {
            found.source: found
            for found in read_all(tmp_path, cut(tmp_path, ["a.tif"], data), FORM, data, lambda found: found)
        }
    mapped = {one.source: one for windows, _ in strips(SceneWindows.of(tmp_path, "a.tif", data, 16)) for one in windows}
    assert trained.keys() < mapped.keys()
    for source, found in trained.items():
        tile = found.tile()
        assert not isinstance(tile, Unusable)
        np.testing.assert_array_equal(mapped[source].pixels, tile.pixels)
        assert mapped[source].place == found.place()


def test_even_windows_count_in_a_map_and_cloudy_ones_do_not(tmp_path: Path) -> None:
    pixels = np.full((3, 64, 64), 7, np.uint16)
    pixels[2] = 0
    pixels[2, :32, :32] = 1
    write_scene(tmp_path / "a.tif", pixels)
    data = for_maps(settings(tmp_path, cloud=CloudSettings(band=3, values=[1])))
    seen = {
        one.source.window: one.pixels
        for windows, _ in strips(SceneWindows.of(tmp_path, "a.tif", data, 16))
        for one in windows
    }
    cloudy = {(w.row, w.column) for w, pixels in seen.items() if w and isinstance(pixels, Unusable)}
    assert cloudy == {(row, column) for row in (0, 16) for column in (0, 16)}


def test_cells_lie_on_the_grid_that_windows_are_cut_from(tmp_path: Path) -> None:
    write_scene(tmp_path / "own.tif", values(70, 90))
    write_scene(tmp_path / "fine.tif", values(140, 180), transform=grid_from(NORTH_UP, scale=0.5))
    own = SceneWindows.of(tmp_path, "own.tif", settings(tmp_path), 8).cells
    assert (own.transform, own.width, own.height) == (grid_from(NORTH_UP, scale=8), 12, 9)
    assert own.metres == 80
    assert SceneWindows.of(tmp_path, "fine.tif", settings(tmp_path, metres=10.0), 8).cells == own
    with rasterio.open(tmp_path / "own.tif") as file:
        assert own.crs == file.crs


def test_what_is_no_scene_says_why(tmp_path: Path) -> None:
    write_scene(tmp_path / "small.tif", values(10, 90))
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(Unusable, match="smaller than a window"):
        SceneWindows.of(tmp_path, "small.tif", settings(tmp_path), 8)
    with pytest.raises(Unusable, match="no raster"):
        SceneWindows.of(tmp_path, "text.tif", settings(tmp_path), 8)
    with pytest.raises(Unusable, match="cannot be opened"):
        SceneWindows.of(tmp_path, "absent.tif", settings(tmp_path), 8)
    with pytest.raises(Unusable, match="name is not UTF-8"):
        SceneWindows.of(tmp_path, "\udcff.tif", settings(tmp_path), 8)
