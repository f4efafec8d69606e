"""Maps as files: rows in, a cloud-optimised GeoTIFF out, and nothing where that fails."""

from pathlib import Path

import numpy as np
import rasterio
from made_scenes import NORTH_UP
from rasterio.crs import CRS

from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.maps.cogs import written_map


def test_rows_become_a_map_with_overviews_that_leave_nodata_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(10, 1, (2, 700, 600)).astype(np.float32)
    values[:, :, 300:] = np.nan
    ground = Ground(CRS.from_epsg(32633), NORTH_UP, 600, 700)
    with written_map(tmp_path / "a.tif", ground, "float32", np.nan, ["one", "two"], {"scene": "b.tif"}) as target:
        for first in range(0, 700, 90):
            target.rows(first, values[:, first : first + 90])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert (file.crs, file.transform) == (ground.crs, ground.transform)
        assert (file.descriptions, file.tags()["scene"]) == (("one", "two"), "b.tif")
        assert file.overviews(1) == [2]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as small:
        means = small.read(1)
        assert np.isnan(means[:, 150:]).all()
        np.testing.assert_allclose(means[:, :150], values[0, :, :300].reshape(350, 2, 150, 2).mean((1, 3)), rtol=1e-5)


def test_a_map_of_classes_has_names_and_colours_up_to_255(tmp_path: Path) -> None:
    ground = Ground(None, NORTH_UP, 4, 3)
    names = [f"kind {number}" for number in range(255)]
    numbers = np.arange(12).reshape(1, 3, 4)
    with written_map(tmp_path / "a.tif", ground, "uint8", 255.0, ["class"], {}, names) as target:
        target.rows(0, numbers)
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), numbers)
        assert file.tags(1)["class_254"] == "kind 254"
        assert file.colormap(1)[1] == (0, 115, 178, 255)
        assert len({file.colormap(1)[number] for number in range(8)}) == 8
    with written_map(tmp_path / "b.tif", ground, "uint16", 65535.0, ["class"], {}, [*names, "more"]) as target:
        target.rows(0, 20 * numbers)
    with rasterio.open(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.read(), 20 * numbers)
        assert file.tags(1)["class_255"] == "more"


def test_what_fails_within_leaves_nothing(tmp_path: Path) -> None:
    ground = Ground(None, NORTH_UP, 4, 3)
    target = written_map(tmp_path / "a.tif", ground, "float32", np.nan, ["one"], {})
    target.__enter__().rows(0, np.zeros((1, 1, 4)))
    assert list(tmp_path.iterdir())
    assert not target.__exit__(ValueError, ValueError("within"), None)
    assert not list(tmp_path.iterdir())
