"""Labels of windows from files over scenes, as packing and check see them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from made_polygons import box, write_polygons
from made_scenes import NORTH_UP, settings, values, write_scene
from pydantic import ValidationError

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.folders import Layout, layout_of
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

HALVES = [("wood", [box(0, 0, 32, 64)]), ("lake", [box(32, 0, 64, 40)])]
"""Of a scene of 64 px: 8 windows of 16 px, and 4 with 2 that are covered by half."""


def scenes(root: Path, *names: str, **options: Any) -> DataSettings:
    """Scenes, and settings that label their windows by a.geojson or what the options name."""
    for number, name in enumerate(names or ("a",)):
        write_scene(root / f"{name}.tif", values(64, 64, seed=number))
    return settings(root, data_labels=options.pop("labels", "sides.geojson"), **options)


def labels(layout: Layout) -> dict[str, str | None]:
    return {str(tile.source): tile.label for tile in layout.tiles}


@pytest.mark.parametrize(("share", "lake"), [(0.5, 6), (0.51, 4)])
def test_a_window_has_the_class_that_covers_enough_of_it(share: float, lake: int, tmp_path: Path) -> None:
    data = scenes(tmp_path, data_label_share=share)
    write_polygons(tmp_path / "sides.geojson", HALVES, NORTH_UP)
    layout = layout_of(data, None)
    assert Counter(labels(layout).values()) == {"wood": 8, "lake": lake, None: 8 - lake}
    assert layout.classes == ["lake", "wood"]
    assert f"windows with a label from sides.geojson: {8 + lake} of 16 (lake {lake}, wood 8)" in layout.notes
    below = f"windows that no class covers by {share:.0%}, used without a label: 2"
    assert (below in layout.notes) == (share > 0.5)


def test_the_larger_share_wins_and_of_equal_ones_the_first_name(tmp_path: Path) -> None:
    data = scenes(tmp_path, tile=64, size=64, data_label_share=0.1)
    write_polygons(tmp_path / "sides.geojson", HALVES, NORTH_UP)
    assert list(labels(layout_of(data, None)).values()) == ["wood"]
    write_polygons(tmp_path / "sides.geojson", [("z", [box(0, 0, 32, 64)]), ("b", [box(32, 0, 64, 64)])], NORTH_UP)
    layout = layout_of(data, None)
    assert (layout.classes, list(labels(layout).values())) == (["b"], ["b"])
    assert "classes of which no window is, left out: 1, such as z" in layout.notes


def packed(tmp_path: Path, data: DataSettings) -> tuple[TileStore, dict[str, Any]]:
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path), plan.tiles(run).facts


def test_packing_and_check_see_the_same_labels_and_a_change_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders give no class beside polygons. A changed polygon is noticed, and no pixel is read again for it."""
    root = tmp_path / "scenes"
    data = scenes(root, "east/a", "east/b", "west/c")
    write_polygons(root / "sides.geojson", HALVES, NORTH_UP)
    store, facts = packed(tmp_path, data)
    truth = labels(layout_of(data, None))
    named = {str(source): store.classes[label] if label >= 0 else None
             for source, label in zip(store.sources, store.labels.tolist(), strict=True)}  # fmt: skip
    assert named == truth
    assert (store.classes, Counter(named.values())) == (["lake", "wood"], {"wood": 24, "lake": 18, None: 6})
    found = survey(data)
    assert found.labels.tolist() == store.labels.tolist()
    assert found.split.tolist() == store.split.tolist()
    before = facts["content"]
    assert packed(tmp_path, data)[1]["content"] == before
    assert "done before" in capsys.readouterr().out
    write_polygons(root / "sides.geojson", [*HALVES, ("town", [box(32, 48, 64, 64)])], NORTH_UP)
    store, facts = packed(tmp_path, data)
    assert "other labels or splits" in capsys.readouterr().out.replace("\n", " ")
    assert (store.classes, facts["content"] == before) == (["lake", "town", "wood"], False)
    assert (store.path / "tiles-00000.bin").stat().st_size == 48 * 2 * 256 * 2


def test_a_raster_for_all_scenes_is_no_scene_itself(tmp_path: Path) -> None:
    data = scenes(tmp_path, labels="classes.tif", data_mask_classes=["none", "dry", "wet"])
    numbers = np.full((1, 64, 64), 2, np.uint8)
    numbers[0, :, :20] = 1
    numbers[0, :16] = 255
    write_scene(tmp_path / "classes.tif", numbers)
    layout = layout_of(data, None)
    assert {tile.source.path for tile in layout.tiles} == {"a.tif"}
    assert Counter(labels(layout).values()) == {"wet": 9, "dry": 3, None: 4}
    assert layout.classes == ["dry", "wet"]
    assert not any("passed over" in note for note in layout.notes)


def test_rasters_beside_scenes(tmp_path: Path) -> None:
    """Numbers are in their order, whichever file they come from; a scene without a raster has no labels."""
    data = scenes(tmp_path, "a", "north/b", "c", labels="*_labels.tif")
    write_scene(tmp_path / "a_labels.tif", np.full((1, 64, 64), 10, np.uint8))
    write_scene(tmp_path / "north" / "b_labels.tif", np.full((1, 64, 64), 9, np.uint8))
    layout = layout_of(data, None)
    assert Counter(tile.source.path for tile in layout.tiles) == {"a.tif": 16, "north/b.tif": 16, "c.tif": 16}
    assert Counter(labels(layout).values()) == {"10": 16, "9": 16, None: 16}
    assert layout.classes == ["9", "10"]
    assert "scenes without a file *_labels.tif, used without a label: 1, such as c.tif" in layout.notes


def test_scenes_without_coordinates_have_no_label_and_are_told(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    write_scene(tmp_path / "b.tif", values(64, 64), crs=None, transform=None)
    write_polygons(tmp_path / "sides.geojson", HALVES, NORTH_UP)
    layout = layout_of(data, None)
    assert "scenes without coordinates, used without a label: 1, such as b.tif" in layout.notes
    assert Counter(tile.label for tile in layout.tiles if tile.source.path == "b.tif") == {None: 16}


def test_polygons_elsewhere_are_counted_and_refused_if_they_are_all(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    elsewhere = [("wood", [box(900, 0, 932, 64)]), ("lake", [box(932, 0, 964, 64)])]
    write_polygons(tmp_path / "sides.geojson", [*HALVES, *elsewhere], NORTH_UP)
    assert "polygons of sides.geojson that touch no window: 2 of 4" in layout_of(data, None).notes
    write_polygons(tmp_path / "sides.geojson", elsewhere, NORTH_UP)
    with pytest.raises(UserError, match="has no class in any window of a scene") as found:
        layout_of(data, None)
    assert "polygons at 509000, 5.49936e+06 to 509640, 5.5e+06 in EPSG:32633" in str(found.value)


def test_a_share_that_no_class_reaches_is_told_with_the_largest(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    write_polygons(tmp_path / "sides.geojson", [("wood", [box(0, 0, 4, 16)])], NORTH_UP)
    with pytest.raises(UserError, match=r"none covers 50% of one: the largest share is 25.0%. Lower data.label_share"):
        layout_of(data, None)


def test_without_any_raster_beside_a_scene_the_name_looked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no scene has its file \*_l.tif beside it; that of a.tif would be a_l.tif"):
        layout_of(scenes(tmp_path, labels="*_l.tif"), None)


def test_a_file_that_is_not_there_or_no_raster_is_refused(tmp_path: Path) -> None:
    data = scenes(tmp_path, labels="labels.tif")
    with pytest.raises(UserError, match=r"data.labels: there is no file .*labels.tif"):
        layout_of(data, None)
    (tmp_path / "labels.tif").write_text("<VRTDataset/>")
    with pytest.raises(UserError, match=r"data.labels: .*labels.tif cannot be read \(no raster"):
        layout_of(data, None)
    with pytest.raises(UserError, match=r"lies outside of data.root"):
        layout_of(data.model_copy(update={"labels": "../labels.tif"}), None)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"labels": "a.gpkg", "scenes": None}, "set scenes.tile"),
        ({"labels": "a.gpkg", "multi_label": True}, "a window has one class"),
        ({"labels": "a.gpkg", "mask_classes": ["a", "b"]}, "mask_classes names numbers"),
        ({"labels": "a.gpkg", "label_ignore": [0]}, "label_ignore is for labels from a raster"),
        ({"labels": "a.tif", "label_column": "x"}, "label_column is for labels from polygons"),
        ({"labels": "a.csv", "label_share": 0.6}, "label_share is for labels from polygons or a raster"),
        ({"labels": "*/a.tif"}, "the end of a name"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate({"root": "x", "scenes": {"tile": 16}} | keys)


@pytest.mark.parametrize("name", ["rio_tiler__mosaic_cog1", "chrieke_InstanceSegmentation_Sentinel2__RGB_small"])
def test_polygons_in_degrees_over_real_scenes(name: str, tmp_path: Path, real_data: Path) -> None:
    """Over the western half of a scene in UTM: windows whose centre lies there are labelled, also beside others."""
    for path in (real_data / "geotiff").glob("*.tif"):
        (tmp_path / path.name).symlink_to(path)
    with rasterio.open(tmp_path / f"{name}.tif") as dataset:
        half = dataset.width / 2
        shapes = [("west", [box(0, 0, half, dataset.height)])]
        write_polygons(tmp_path / "west.geojson", shapes, dataset.transform, "EPSG:4326", dataset.crs.to_string())
    tiles = layout_of(settings(tmp_path, 64, data_labels="west.geojson"), None).tiles
    own = [tile for tile in tiles if tile.source.window and tile.source.path == f"{name}.tif"]
    assert {tile.label for tile in own} == {"west", None}
    for tile in own:
        assert tile.source.window is not None
        assert (tile.label == "west") == (tile.source.window.column + 32 <= half)
