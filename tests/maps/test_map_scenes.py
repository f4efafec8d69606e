"""Maps of scenes through rasterio: places, values, edges, nodata, halves; what stops one leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
import torch
from made_scenes import NORTH_UP, grid_from, write_scene
from rasterio import Affine

from gcl_custom.errors import UserError
from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.imagery.source import Source, Window
from gcl_custom.maps import map_scenes as module
from gcl_custom.maps.fitted import fitted
from gcl_custom.maps.map_scenes import map_scenes
from gcl_custom.maps.scene_windows import SceneWindows
from gcl_custom.runs.run import Run

SIDE, STEP = 32, 8


def read(folder: Path, kind: str, name: str = "north") -> np.ndarray:
    with rasterio.open(folder / f"{name}.{kind}.tif") as file:
        found: np.ndarray = file.read()
    return found


@pytest.fixture(scope="module")
def maps(run: Run, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("maps") / "new"
    map_scenes(run, [scene], out, step=STEP)
    return out


def test_known_places_are_found_in_the_map_of_classes(run: Run, maps: Path, scene: Path) -> None:
    """At points on earth: whoever opens both sees the stripes one above the other."""
    with rasterio.open(scene) as below, rasterio.open(maps / "north.classes.tif") as file:
        assert file.crs == below.crs
        assert file.transform == grid_from(NORTH_UP, scale=STEP)
        assert file.bounds[0] == below.bounds[0]
        assert file.bounds[3] == below.bounds[3]
        assert (file.width, file.height) == (208 // STEP, 150 // STEP + 1)
        assert (file.dtypes[0], file.nodata) == ("uint8", 255)
        names = {int(key.removeprefix("class_")): name for key, name in file.tags(1).items() if key[:6] == "class_"}
        assert [names[number] for number in range(3)] == load_backbone(run, "gcl", None).store.classes
        assert len({file.colormap(1)[number] for number in range(3)}) == 3
        middles = {"lake": 32, "forest": 96, "field": 160}
        points = [below.xy(row, column) for column in middles.values() for row in (20, 75, 140)]
        found = [names[int(value[0])] for value in file.sample(points)]
    assert found == [name for name in middles for _ in range(3)]
    confidence = read(maps, "confidence")
    assert confidence[0, :, [4, 12, 20]].min() > 0.6
    assert confidence[0, :, [7, 8]].mean() < confidence[0, :, [3, 4]].mean(), "between two stripes it is less sure"


def test_cells_are_the_blended_windows_of_the_exported_network(
    run: Run, maps: Path, scene: Path, striped: np.ndarray
) -> None:
    """The plain way, for some cells: each window that holds the centre by itself, weighted by the raised cosine."""
    known = load_backbone(run, "gcl", None)
    network, found = known.plain(), fitted(known)
    components, classes, confidence = (read(maps, kind) for kind in ("components", "classes", "confidence"))

    def starts(length: int, centre: float) -> list[int]:
        every = {*range(0, length - SIDE + 1, STEP), length - SIDE}
        return sorted(start for start in every if abs(centre - start - SIDE / 2) < SIDE / 2)

    for y, x in [(0, 0), (7, 9), (18, 25), (18, 3), (10, 25)]:
        top, left = (min(STEP * cell + STEP / 2, (STEP * cell + end) / 2) for cell, end in ((y, 150), (x, 208)))
        corners = [(row, column) for row in starts(150, top) for column in starts(208, left)]
        weights = np.array(
            [np.prod([np.cos(np.pi * (c - s - 16) / 32) ** 2 for c, s in ((top, r), (left, k))]) for r, k in corners]
        )
        tiles = np.stack([striped[:, row : row + SIDE, column : column + SIDE] for row, column in corners])
        with torch.inference_mode():
            seen = network(known.store.unit(torch.from_numpy(tiles.astype(np.int32)))).numpy()
        plain = weights @ found.components(seen, 3) / weights.sum()
        np.testing.assert_allclose(components[:, y, x], plain, rtol=1e-4, atol=1e-4)
        likely = weights @ found.probabilities(seen) / weights.sum()
        assert classes[0, y, x] == likely.argmax()
        assert confidence[0, y, x] == pytest.approx(likely.max(), abs=1e-5)


def test_maps_of_two_halves_mosaic_back_to_the_map_of_the_whole(
    run: Run, maps: Path, striped: np.ndarray, tmp_path: Path
) -> None:
    """Cells a window's side or more from the cut have the same windows in a half as in the whole."""
    write_scene(tmp_path / "halves" / "west.tif", striped[:, :, :128])
    write_scene(tmp_path / "halves" / "east.tif", striped[:, :, 64:], transform=grid_from(NORTH_UP, column=64))
    map_scenes(run, [tmp_path / "halves"], tmp_path / "maps", step=STEP)
    whole = read(maps, "components")
    west, east = (read(tmp_path / "maps", "components", name) for name in ("west", "east"))
    np.testing.assert_allclose(west[:, :, :12], whole[:, :, :12], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(east[:, :, 4:], whole[:, :, 12:], rtol=1e-4, atol=1e-4)
    with rasterio.open(tmp_path / "maps" / "east.components.tif") as file:
        assert file.transform == grid_from(NORTH_UP, column=64, scale=STEP)


def test_a_map_is_a_cloud_optimised_geotiff_that_says_what_it_is(maps: Path) -> None:
    for kind in ("components", "classes", "confidence"):
        with rasterio.open(maps / f"north.{kind}.tif") as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert (file.tags()["stride_pixels"], file.tags()["window_pixels"]) == ("8", "32")
            assert file.tags()["run"] == "trial"
    with rasterio.open(maps / "north.components.tif") as file:
        assert file.descriptions[0].startswith("component 1, ")
        assert file.dtypes[0] == "float32"


def test_the_table_holds_each_window_once(run: Run, maps: Path, striped: np.ndarray) -> None:
    table = pyarrow.parquet.read_table(maps / "north.tiles.parquet")
    windows = [Source.parse(text).window for text in table["file"].to_pylist()]
    rows, columns = ({*range(0, length - SIDE + 1, STEP), length - SIDE} for length in (150, 208))
    assert {(w.row, w.column) for w in windows if w} == {(row, column) for row in rows for column in columns}
    assert len(windows) == len(rows) * len(columns)
    at = windows.index(Window(72, 16, SIDE, SIDE))
    assert (table["x"][at].as_py(), table["y"][at].as_py()) == (500_000 + 880, 5_500_000 - 320)
    known = load_backbone(run, "gcl", None)
    pixels = torch.from_numpy(striped[None, :, 16:48, 72:104].astype(np.int32))
    with torch.inference_mode():
        expected = known.plain()(known.store.unit(pixels))[0].numpy()
    np.testing.assert_allclose(table["representation"][at].as_py(), expected, rtol=1e-4, atol=1e-5)
    assert table["class"][at].as_py() == "forest"
    likely = fitted(known).probabilities(expected[None]).max()
    assert table["confidence"][at].as_py() == pytest.approx(likely, abs=1e-5)
    about = json.loads(table.schema.metadata[b"geo"])
    assert about["columns"]["geometry"]["geometry_types"] == ["Point"]
    assert json.loads(table.schema.metadata[b"gcl_custom"])["arm"] == "gcl"


def test_nodata_of_the_scene_stays_nodata(run: Run, striped: np.ndarray, tmp_path: Path) -> None:
    pixels = striped.copy()
    pixels[:, 40:104, 80:112] = 0
    pixels[:, :, 150:] = 0
    write_scene(tmp_path / "north.tif", pixels, nodata=0)
    map_scenes(run, [tmp_path / "north.tif"], tmp_path / "maps", step=STEP, table=False)
    expected = np.zeros((19, 26), bool)
    expected[5:13, 10:14] = True
    expected[:, 19:] = True  # six of the eight columns of cell 18 hold data
    assert (np.isnan(read(tmp_path / "maps", "components")) == expected).all()
    assert ((read(tmp_path / "maps", "classes")[0] == 255) == expected).all()
    assert (np.isnan(read(tmp_path / "maps", "confidence")[0]) == expected).all()
    assert not (tmp_path / "maps" / "north.tiles.parquet").exists()


def test_a_turned_scene_keeps_its_turn_and_all_components_can_be_had(
    run: Run, striped: np.ndarray, tmp_path: Path
) -> None:
    turned = Affine(8.66, 5, 500_000, 5, -8.66, 5_500_000)
    write_scene(tmp_path / "turned.tif", striped[:, :64, :96], transform=turned)
    map_scenes(run, [tmp_path / "turned.tif"], tmp_path / "maps", step=16, components=None)
    known = load_backbone(run, "gcl", None)
    with rasterio.open(tmp_path / "maps" / "turned.components.tif") as file:
        assert np.allclose(file.transform, grid_from(turned, scale=16))
        assert file.count == len(fitted(known).shares)


def test_what_cannot_be_mapped_is_refused_before_any_work(run: Run, scene: Path, maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    with pytest.raises(UserError, match="--stride 33: windows have 32 px"):
        map_scenes(run, [scene], out, step=33)
    with pytest.raises(UserError, match=r"--components 5000: there are \d+"):
        map_scenes(run, [scene], out, components=5000)
    with pytest.raises(UserError, match="There is no file or folder"):
        map_scenes(run, [tmp_path / "south.tif"], out)
    with pytest.raises(UserError, match="would have the same names"):
        map_scenes(run, [scene, scene.parent], out)
    with pytest.raises(UserError, match=r"north\.components\.tif exists already. Add --overwrite"):
        map_scenes(run, [scene], maps)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no scene there"):
        map_scenes(run, [tmp_path / "empty"], out)
    assert not out.exists() or not list(out.iterdir())


def test_a_scene_that_cannot_be_used_leaves_nothing_and_the_others_are_mapped(
    run: Run, striped: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = tmp_path / "scenes"
    write_scene(scenes / "bands.tif", striped[:3, :64, :64])
    write_scene(scenes / "small.tif", striped[:, :20, :64])
    with pytest.raises(UserError, match=r"none of its 9 windows can be used.*3, the data set has 4"):
        map_scenes(run, [scenes], tmp_path / "maps")
    write_scene(scenes / "whole.tif", striped[:, :64, :64])
    map_scenes(run, [scenes], tmp_path / "maps")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 scenes have no map" in said
    assert "smaller than a window (64 x 20 px, where a tile of the run is cut from 32 x 32)" in said
    assert {path.name.split(".")[0] for path in (tmp_path / "maps").iterdir()} == {"whole"}


def test_what_stops_a_map_leaves_no_file(
    run: Run, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "INFERENCE_BATCH", 50)
    monkeypatch.setattr(module, "_add", stop)
    with pytest.raises(KeyboardInterrupt):
        map_scenes(run, [scene], tmp_path / "maps", step=STEP)
    assert not list((tmp_path / "maps").iterdir())


def test_a_command_that_was_killed_maps_what_is_left(
    run: Run, striped: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "maps"
    for name in "abc":
        write_scene(scenes / f"{name}.tif", striped[:, :64, :64])
    mapped, real = list[str](), module._map

    def until_killed(job: module.Job, scene: SceneWindows, stem: Path) -> None:
        if mapped == ["a"]:
            raise KeyboardInterrupt
        mapped.append(stem.name)
        real(job, scene, stem)

    monkeypatch.setattr(module, "_map", until_killed)
    with pytest.raises(KeyboardInterrupt):
        map_scenes(run, [scenes], out, overwrite=True)
    first = (out / "a.components.tif").read_bytes()
    (out / "b.tiles.parquet").touch()  # what a kill between two files of a scene leaves
    mapped.append("and on")
    with pytest.raises(UserError, match=r"b\.tiles\.parquet exists already"):
        map_scenes(run, [scenes], out)
    map_scenes(run, [scenes], out, overwrite=True)
    assert mapped == ["a", "and on", "b", "c"]
    assert "1 scene mapped before, by the same backbone in the same way: kept" in capsys.readouterr().out
    assert (out / "a.components.tif").read_bytes() == first
    map_scenes(run, [scenes], out)
    assert mapped == ["a", "and on", "b", "c"], "nothing is left"


@pytest.mark.parametrize("change", ["file", "step", "backbone", "table"])
def test_maps_of_another_making_are_refused_and_replaced_as_a_whole(
    run: Run, striped: np.ndarray, tmp_path: Path, change: str
) -> None:
    """A table that stays beside a new map would describe an older one."""
    scene, out = tmp_path / "a.tif", tmp_path / "maps"
    write_scene(scene, striped[:, :64, :64])
    map_scenes(run, [scene], out)
    if change == "file":
        write_scene(scene, striped[:, :64, :96])
    other: dict[str, Any] = {"step": {"step": 8}, "backbone": {"arm": "handcrafted"}, "table": {"table": False}}
    asked = other.get(change, {})
    with pytest.raises(UserError, match=r"a\.components\.tif exists already. Add --overwrite"):
        map_scenes(run, [scene], out, **asked)
    map_scenes(run, [scene], out, overwrite=True, **asked)
    assert (out / "a.tiles.parquet").is_file() == (change != "table")
    map_scenes(run, [scene], out, **asked)


def test_maps_among_their_scenes_are_no_scenes(
    run: Run, striped: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "scenes" / "a.tif", striped[:, :64, :64])
    map_scenes(run, [tmp_path / "scenes"], tmp_path / "scenes")
    there = sorted(tmp_path.rglob("*"))
    map_scenes(run, [tmp_path / "scenes"], tmp_path / "scenes")
    assert "1 scene mapped before" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == there


def test_without_labels_there_is_no_map_of_classes(
    run: Run, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gcl_custom.maps.fitted.labelled", lambda store, split: store.index(split)[:0])
    map_scenes(run, [scene], tmp_path / "maps", arm="handcrafted", seed=4)
    said = " ".join(capsys.readouterr().out.split())
    assert "no map of classes: none of its train and valid tiles has a label" in said
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == ["north.components.tif", "north.tiles.parquet"]
    assert "class" not in pyarrow.parquet.read_schema(tmp_path / "maps" / "north.tiles.parquet").names
