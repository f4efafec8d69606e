"""Known shares of windows, also against shapely's own areas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from made_polygons import box, write_polygons
from made_scenes import NORTH_UP, settings, values, write_scene
from rasterio import Affine

from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.label_raster import Shares
from gcl_custom.imagery.scenes.polygon_shares import PolygonLabels
from gcl_custom.imagery.scenes.polygons import read_polygons
from gcl_custom.imagery.scenes.scene import open_scene

TURNED = Affine.translation(500_000, 5_500_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
WINDOWS = [(column, row, 16, 16) for row in range(0, 64, 16) for column in range(0, 64, 16)]


def shares(folder: Path, windows: list[Rectangle] = WINDOWS, **scenes: Any) -> dict[tuple[int, int], Shares]:
    """The shares of classes in the windows of a.tif by a.geojson, without windows that have none."""
    labels = PolygonLabels(read_polygons(folder / "a.geojson"))
    data = settings(folder, **scenes)
    assert data.scenes is not None
    with open_scene(folder / "a.tif", data.scenes) as scene:
        found = labels.shares(scene, windows)
    assert found is not None
    return {(window[0], window[1]): share for window, share in zip(windows, found, strict=True) if share}


@pytest.mark.parametrize("affine", [NORTH_UP, TURNED], ids=["north up", "turned"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_known_shares_of_windows(affine: Affine, crs: str, tmp_path: Path) -> None:
    """One window is covered exactly, two by 40 % and 60 %, one but for a hole, and one by two that overlap."""
    write_scene(tmp_path / "a.tif", values(64, 64), transform=affine)
    shapes = [
        ("wood", [box(16, 16, 32, 32)]),
        ("lake", [box(9.6, 48, 25.6, 64)]),
        ("field", [box(48, 0, 64, 16), box(52, 4, 60, 12)]),
        ("town", [box(48, 32, 64, 40)]),
        ("town", [box(48, 36, 64, 44)]),
    ]
    write_polygons(tmp_path / "a.geojson", shapes, affine, crs)
    found = shares(tmp_path)
    truth = {
        ((16, 16), "wood"): 1.0,
        ((0, 48), "lake"): 0.4,
        ((16, 48), "lake"): 0.6,
        ((48, 0), "field"): 0.75,
        ((48, 32), "town"): 0.75,
    }
    assert all(found[window].get(name) == pytest.approx(share, abs=1e-4) for (window, name), share in truth.items())
    assert all(
        share < 1e-3 for window, named in found.items() for name, share in named.items() if (window, name) not in truth
    )


def test_shares_are_those_of_shapely_on_the_ground(tmp_path: Path) -> None:
    """Polygons of any form over a turned scene, whose windows shapely sees as turned squares."""
    rng = np.random.default_rng(0)
    write_scene(tmp_path / "a.tif", values(64, 64), transform=TURNED)
    names = ["a", "b", "c"] * 4
    rings = [
        shapely.convex_hull(shapely.MultiPoint(rng.uniform(-20, 84, 2) + rng.normal(0, 14, (7, 2)))) for _ in names
    ]
    write_polygons(
        tmp_path / "a.geojson",
        [(name, [list(ring.exterior.coords)]) for name, ring in zip(names, rings, strict=True)],
        TURNED,
    )
    found = shares(tmp_path)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        on_ground = [
            shapely.transform(ring, lambda points: np.array([dataset.transform @ point for point in points.tolist()]))
            for ring in rings
        ]
        for column, row, width, height in WINDOWS:
            corners = box(column, row, column + width, row + height)
            window = shapely.Polygon([dataset.transform @ corner for corner in corners])
            for name in "abc":
                of_class = shapely.union_all(
                    [ring for ring, other in zip(on_ground, names, strict=True) if other == name]
                )
                share = of_class.intersection(window).area / window.area
                assert found.get((column, row), {}).get(name, 0) == pytest.approx(share, abs=1e-6)
    assert sum(map(len, found.values())) > 20


def test_windows_of_a_resampled_scene_lie_on_its_grid(tmp_path: Path) -> None:
    """At 20 m, a window of 16 px covers what 32 px of the file did."""
    write_scene(tmp_path / "a.tif", values(64, 64))
    write_polygons(tmp_path / "a.geojson", [("wood", [box(32, 0, 64, 16)])], NORTH_UP)
    assert shares(tmp_path, [(0, 0, 16, 16), (16, 0, 16, 16)], metres=20.0) == {(16, 0): {"wood": pytest.approx(0.5)}}


def test_a_polygon_far_larger_than_a_scene_and_one_elsewhere(tmp_path: Path) -> None:
    """A country in degrees, whose far corners have no place in the scene's projection."""
    write_scene(tmp_path / "a.tif", values(64, 64))
    features = [
        {"type": "Feature", "properties": {"class": name}, "geometry": shapely.geometry.mapping(shape)}
        for name, shape in (("land", shapely.box(-179, -80, 179, 89)), ("isle", shapely.box(100, 10, 101, 11)))
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert shares(tmp_path) == {window[:2]: {"land": 1.0} for window in WINDOWS}
