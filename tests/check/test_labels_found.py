"""Labels beside imagery: what is one, what only looks like one, and what is left to the user."""

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine
from small_images import tiff

from gcl_custom.check.labels_found import labels_below

CLASSES = np.arange(64 * 64).reshape(1, 64, 64) % 3


def scenes(root: Path, *names: str) -> None:
    root.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(1, 9000, (4, 64, 64)).astype(np.uint16)
        tiff(root / name, pixels, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6))


def raster(path: Path, values: np.ndarray = CLASSES, dtype: str = "uint8") -> None:
    tiff(path, values.astype(dtype), crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6))


def polygons(path: Path, properties: dict[str, str]) -> None:
    square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [square]}
    feature = {"type": "Feature", "properties": properties, "geometry": shape}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


def given(root: Path, cut: bool = True) -> str | None:
    found = labels_below(root, cut)
    return found.given if found else None


def why_none(root: Path, cut: bool = True) -> str:
    """Why what looks like labels is left to the user."""
    found = labels_below(root, cut)
    assert found is not None
    assert found.given is None
    return found.reason


def test_a_raster_of_classes_among_scenes(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    assert labels_below(tmp_path, True) is None
    raster(tmp_path / "cover.tif")
    assert given(tmp_path) == "cover.tif"
    assert labels_below(tmp_path, False) is None, "tiles have no labels on the ground"


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_heights_are_no_classes(dtype: str, tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif")
    raster(tmp_path / "heights.tif", np.arange(64 * 64).reshape(1, 64, 64), dtype)
    assert labels_below(tmp_path, True) is None


def test_rasters_of_one_band_alone_are_scenes(tmp_path: Path) -> None:
    raster(tmp_path / "a.tif")
    assert labels_below(tmp_path, True) is None


def test_a_raster_beside_each_scene(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    for name in ("a", "b"):
        raster(tmp_path / f"{name}_labels.tif")
    found = labels_below(tmp_path, True)
    assert found is not None
    assert found.given == "*_labels.tif"
    assert "2 of 2 scenes" in found.reason


def test_a_mask_of_clouds_beside_each_scene_is_left_to_the_user(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    for name in ("a", "b"):
        raster(tmp_path / f"{name}_clouds.tif")
    assert "a_clouds.tif" in why_none(tmp_path)


def test_polygons_with_classes(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif")
    polygons(tmp_path / "fields.geojson", {"class": "wheat"})
    assert given(tmp_path) == "fields.geojson"
    polygons(tmp_path / "fields.geojson", {"kind": "wheat", "owner": "me"})
    assert "fields.geojson gives no labels as it is" in why_none(tmp_path)


def test_a_table_of_files(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    table = tmp_path / "some.csv"
    table.write_text("file,labels\na.tif,wheat\n")
    assert given(tmp_path, cut=False) == "some.csv"
    table.write_text("id,weight\n1,2\n")
    assert "columns file and labels" in why_none(tmp_path, cut=False)


def test_of_several_none_is_chosen(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif")
    raster(tmp_path / "cover.tif")
    polygons(tmp_path / "fields.geojson", {"class": "wheat"})
    assert "fields.geojson, cover.tif" in why_none(tmp_path)


def test_labels_are_looked_for_where_images_are(tmp_path: Path) -> None:
    """Not in the folder of a run, and not behind a link out of the root, where a recipe may name none."""
    root, theirs, table = tmp_path / "mine", tmp_path / "theirs", "file,labels\na.tif,wheat\n"
    scenes(root, "a.tif")
    scenes(theirs, "b.tif")
    (theirs / "some.csv").write_text(table)
    (root / "linked").symlink_to(theirs)
    (root / "runs" / "r" / "tiles").mkdir(parents=True)
    for name in ("stage.json", "some.csv"):
        (root / "runs" / "r" / "tiles" / name).write_text(table)
    assert labels_below(root, False) is None
    (root / "deeper").mkdir()
    (root / "deeper" / "some.csv").write_text(table)
    assert given(root, cut=False) == "deeper/some.csv"


def test_a_link_to_itself_is_no_table(tmp_path: Path) -> None:
    scenes(tmp_path, "a.tif", "b.tif")
    (tmp_path / "labels.csv").symlink_to(tmp_path / "labels.csv")
    assert given(tmp_path) is None
