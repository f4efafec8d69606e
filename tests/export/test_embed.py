"""Representations of a folder: those of the linear probe, with coordinates, whatever else lies in the folder."""

import csv
import errno
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
import rasterio.warp
import torch
from collected_images import files_below, zipped
from masked_tiles import draw
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gcl_custom.errors import UserError
from gcl_custom.evaluation import compare_supervised
from gcl_custom.evaluation.inference import infer, labelled
from gcl_custom.export import backbone_of_run, embed, embedded_files
from gcl_custom.export.embedded_table import Table
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on GeoTIFFs of four bands of uint16."""
    made: Run = make_run(tmp_path_factory.mktemp("embed"), bands=4)
    return made


@pytest.fixture(scope="module")
def table(run: Run) -> Any:
    out = run.path.parent / "all.parquet"
    embed.embed(run, Path(run.recipe.data.root), out)
    return pyarrow.parquet.read_table(out)


def array(table: Any) -> np.ndarray:
    return np.stack(table["representation"].to_numpy())


def test_tiles_are_seen_as_the_linear_probe_sees_them(run: Run, table: Any) -> None:
    store = TileStore(plan.tiles(run).path)
    network, _ = compare_supervised._backbone(run, store, "gcl", 3)
    assert table["file"].to_pylist() == [str(source) for source in store.sources]
    expected = infer(network, store, torch.arange(len(store)), run.recipe.hardware)
    np.testing.assert_allclose(array(table), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_classifier_of_the_table_scores_what_the_comparison_reports(run: Run, table: Any) -> None:
    store = TileStore(plan.tiles(run).path)
    reported = compare_supervised.probe(run, store, "gcl", 3)
    train, test = (labelled(store, split).numpy() for split in ("train", "test"))
    found, labels = array(table).astype(np.float64), store.labels.numpy()
    scaler = StandardScaler().fit(found[train])
    theirs = LogisticRegression(C=1 / (len(train) * reported["penalty"]), max_iter=5000, tol=1e-8)
    theirs.fit(scaler.transform(found[train]), labels[train])
    ours = SINGLE_LABEL.score(torch.tensor(reported["linear"]), store.labels[test])
    assert theirs.score(scaler.transform(found[test]), labels[test]) == pytest.approx(ours, abs=0.01)
    assert ours > 1 / 3


def test_coordinates_are_those_of_the_centre(table: Any) -> None:
    row = table["file"].to_pylist().index("lake/7.tif")
    found = {name: table[name][row].as_py() for name in ("x", "y", "crs", "longitude", "latitude")}
    assert (found["x"], found["y"], found["crs"]) == (507_000 + 160, 5_500_000 - 160, "EPSG:32633")
    east, north = rasterio.warp.transform("EPSG:4326", "EPSG:32633", [found["longitude"]], [found["latitude"]])
    assert (east[0], north[0]) == pytest.approx((found["x"], found["y"]), abs=0.01)
    assert 15 < found["longitude"] < 15.2  # the zone's central meridian is 15 degrees east


def test_an_archive_is_embedded_as_its_folder(run: Run, table: Any, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "tiles.zip", files_below(Path(run.recipe.data.root)))
    found = embed.embedded(run, archive)
    assert found["file"].to_pylist() == table["file"].to_pylist()
    assert found["longitude"].to_pylist() == table["longitude"].to_pylist()
    np.testing.assert_array_equal(array(found), array(table))


def test_windows_of_a_scene_have_rows_and_places_of_their_own(
    run: Run, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scene of two tiles side by side, and a rest that is no window."""
    root, names = Path(run.recipe.data.root), ("lake/3.tif", "field/5.tif")
    parts = []
    for name in names:
        with rasterio.open(root / name) as file:
            about, pixels = file.profile, file.read()
            parts.append(pixels)
    (tmp_path / "images").mkdir()
    with rasterio.open(tmp_path / "images" / "scene.tif", "w", **{**about, "width": 80}) as file:
        file.write(np.concatenate([*parts, parts[0][:, :, :16]], axis=2))
    data = run.recipe.data.model_copy(update={"scenes": ScenesSettings()})
    cutting = Run(run.path, run.recipe.model_copy(update={"data": data}))
    known = replace(backbone_of_run.load_backbone(run, "gcl", None), run=cutting)
    monkeypatch.setattr(backbone_of_run, "load_backbone", lambda *_: known)
    embed.embed(cutting, tmp_path / "images", tmp_path / "windows.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "windows.parquet")
    assert [Source.parse(text) for text in found["file"].to_pylist()] == [
        Source("scene.tif", Window(column, 0, 32, 32)) for column in (0, 32)
    ]
    at = [table["file"].to_pylist().index(name) for name in names]
    np.testing.assert_allclose(array(found), array(table)[at], rtol=1e-5, atol=1e-6)
    assert found["x"].to_pylist() == [505_000 + 160, 505_000 + 320 + 160]


def test_columns_have_types_that_every_reader_knows(table: Any) -> None:
    types = {field.name: str(field.type) for field in table.schema}
    assert types.pop("representation").startswith("fixed_size_list<element: float>")
    texts, numbers = ("file", "crs"), ("x", "y", "longitude", "latitude")
    assert types == dict.fromkeys(texts, "string") | dict.fromkeys(numbers, "double") | {"geometry": "binary"}


def test_the_table_is_geoparquet(run: Run, table: Any) -> None:
    about = json.loads(table.schema.metadata[b"geo"])
    assert about["primary_column"] == "geometry"
    found = [struct.unpack("<BIdd", point)[2:] for point in table["geometry"].to_pylist()]
    assert found == list(zip(table["longitude"].to_pylist(), table["latitude"].to_pylist(), strict=True))
    assert len(set(found)) == 32, "a place for each file of a class"


def test_representations_are_those_of_the_exported_network_in_any_precision(run: Run) -> None:
    """bf16, which the recipe's stages compute in where the machine has it, moves them by a percent."""
    hardware = run.recipe.hardware.model_copy(update={"precision": "bf16"})
    other = Run(run.path, run.recipe.model_copy(update={"hardware": hardware}))
    known = backbone_of_run.load_backbone(run, "gcl", None)
    with torch.inference_mode():
        expected = known.plain()(known.store.unit(known.store.read(torch.arange(96)))).numpy()
    folder = Path(run.recipe.data.root)
    parts: list[Table] = []
    embed._embed(replace(known, run=other), folder, embed._sources(folder, run.recipe.data), parts.append)
    found = np.concatenate([part.representations for part in parts])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    rounded = infer(known.network, known.store, torch.arange(96), hardware).numpy()
    assert np.abs(rounded - expected).max() > 1e-3, "the precision makes no difference here"


def test_array_and_csv_say_the_same_as_parquet(run: Run, table: Any, tmp_path: Path) -> None:
    embed.embed(run, Path(run.recipe.data.root), tmp_path / "all.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), array(table))
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == table["file"].to_pylist()
    assert [float(row["longitude"]) for row in rows] == table["longitude"].to_pylist()


def test_an_array_and_its_list_are_written_both_or_not_at_all(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list alone would be in the way of the same command."""

    def full(file: BinaryIO, shape: tuple[int, int]) -> int:
        if shape[0]:
            raise OSError(errno.ENOSPC, "No space left on device", file.name)
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(embedded_files, "_write_header", full)
        with pytest.raises(OSError, match="No space"):
            embed.embed(run, Path(run.recipe.data.root), tmp_path / "all.npy")
    assert not list(tmp_path.iterdir())
    embed.embed(run, Path(run.recipe.data.root), tmp_path / "all.npy")


def test_unusable_files_are_listed_and_the_rest_is_embedded(
    run: Run, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several batches, one of them with nothing usable, and nested deeper than in training."""
    root, deep = Path(run.recipe.data.root), tmp_path / "images" / "a" / "b"
    shutil.copytree(root / "lake", deep)
    good = sorted(path.name for path in deep.iterdir())
    whole = (deep / "0.tif").read_bytes()
    (deep / "00.tif").write_bytes(whole[: len(whole) // 2])
    (deep / "01.png").write_bytes(b"no image at all")
    Image.new("RGB", (32, 32)).save(deep / "02.png")
    Image.new("RGB", (32, 32)).save(deep / "02.jpg")
    monkeypatch.setattr(embed, "INFERENCE_BATCH", 2)
    embed.embed(run, tmp_path / "images", tmp_path / "some.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "some.parquet")
    assert found.equals(embed.embedded(run, tmp_path / "images"), check_metadata=True)
    assert found["file"].to_pylist() == [f"a/b/{name}" for name in good]
    at = {file: row for row, file in enumerate(table["file"].to_pylist())}
    np.testing.assert_allclose(array(found), array(table)[[at[f"lake/{name}"] for name in good]], rtol=1e-5, atol=1e-6)
    listed = dict(line.split("\t") for line in (tmp_path / "some.parquet.unusable.txt").read_text("utf-8").splitlines())
    assert set(listed) == {f"a/b/{name}" for name in ("00.tif", "01.png", "02.png", "02.jpg")}
    assert "truncated or damaged" in listed["a/b/00.tif"]
    assert "3, the data set has 4" in listed["a/b/02.png"]


def test_a_list_of_unusable_files_does_not_outlive_its_output(run: Run, tmp_path: Path) -> None:
    (tmp_path / "all.parquet.unusable.txt").write_text("old\treason\n")
    embed.embed(run, Path(run.recipe.data.root) / "lake", tmp_path / "all.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.parquet"]


@pytest.mark.parametrize("named", [None, "drawn"])
def test_masks_and_thumbnails_are_no_rows_as_they_are_no_tiles(tmp_path: Path, named: str | None) -> None:
    root = draw(tmp_path / "imagery")
    if named:
        (root / "masks").rename(root / named)
    shutil.copytree(root / "images", root / "images" / "thumbs")
    data = DataSettings(root=str(root), size=16, masks=named)
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles(run)
    tiles = [str(source) for source in TileStore(plan.tiles(run).path).sources]
    assert [str(source) for source in embed._sources(root, data)] == tiles
    archive = zipped(tmp_path / "tiles.zip", files_below(root))
    assert [str(source) for source in embed._sources(archive, data)] == tiles
    shutil.rmtree(root / (named or "masks"))
    assert [str(source) for source in embed._sources(root, data)] == tiles


def test_files_without_coordinates_have_nulls(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    embed.embed(run, Path(run.recipe.data.root), tmp_path / "png.parquet", arm="handcrafted", seed=4)
    table = pyarrow.parquet.read_table(tmp_path / "png.parquet")
    assert all(table[name].null_count == len(table) for name in ("x", "y", "crs", "longitude", "latitude"))
    store = TileStore(plan.tiles(run).path)
    network, _ = compare_supervised._backbone(run, store, "handcrafted", 4)
    expected = infer(network, store, torch.arange(len(store)), run.recipe.hardware)
    np.testing.assert_allclose(array(table), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_nothing_usable_no_image_and_a_taken_place_are_refused(run: Run, tmp_path: Path) -> None:
    root = Path(run.recipe.data.root)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        embed.embed(run, tmp_path / "images", tmp_path / "x.npy")
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"No file in .* can be used.*not an image"):
        embed.embed(run, tmp_path / "images", tmp_path / "x.npy")
    with pytest.raises(UserError, match=r"\.parquet or \.npy"):
        embed.embed(run, root, tmp_path / "x.hdf5")
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        embed.embed(run, root, tmp_path / "x.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "x.csv"]
    embed.embed(run, root, tmp_path / "x.npy", overwrite=True)
    assert (tmp_path / "x.csv").read_text("utf-8").startswith("file,x,y,crs,longitude,latitude")


def test_a_scene_that_becomes_one_small_tile_is_warned_of(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    about: dict[str, Any] = {
        "driver": "GTiff",
        "count": 4,
        "dtype": "uint16",
        "transform": rasterio.Affine(1, 0, 5, 0, -1, 5),
    }
    with rasterio.open(folder / "scene.tif", "w", height=512, width=600, **about) as file:
        file.write(np.random.default_rng(0).integers(1, 1000, (4, 512, 600), dtype=np.uint16))
    embed.embed(run, folder, tmp_path / "scenes.parquet")
    said = " ".join(capsys.readouterr().out.split())
    assert "1 file is 16 times as large as data.size or more, and each is shrunk to one tile" in said
