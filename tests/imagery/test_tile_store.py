import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from written_index import read_lists, write_lists

from gcl_custom.errors import UserError
from gcl_custom.imagery.shards.shard_files import shard_name
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import (
    INDEX,
    TileRows,
    TileStore,
    even_places,
    read_index,
    spread,
    texts_in,
    thinned,
    write_index,
)

SHARD = shard_name(0)


def store(path: Path, dtype: str = "uint16") -> tuple[TileStore, np.ndarray]:
    top = 256 if dtype == "uint8" else 50000
    pixels = np.random.default_rng(0).integers(0, top, (6, 4, 16, 16)).astype(dtype)
    pixels.tofile(path / SHARD)
    edges = (
        ([0.0] * 4, [255.0] * 4)
        if dtype == "uint8"
        else ([100.0, 0.0, 5.5, 20.0], [40000.0, 49999.0, 3000.25, 60000.0])
    )
    about = {
        "dtype": dtype, "bands": 4, "size": 16, "rgb": False, "classes": ["a", "b"], "files": list("pqrst"),
        "labels": [0, 1, -1, 0, 1], "split": [0, 2, 1, 0, 0], "multi_label": False, "slots": [5, 0, 2, 1, 3],
        "low": edges[0], "high": edges[1],
    }  # fmt: skip
    write_lists(path, about)
    return TileStore(path), pixels[[5, 0, 2, 1, 3]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_store_reads_its_slots_and_survives_pickling(tmp_path: Path, dtype: str) -> None:
    tiles, truth = store(tmp_path, dtype)
    again = pickle.loads(pickle.dumps(tiles))
    wanted = torch.tensor([3, 0, 0, 4])
    for opened in (tiles, again):
        raw = opened.read(wanted)
        assert raw.dtype == (torch.uint8 if dtype == "uint8" else torch.int32)
        assert np.array_equal(raw.numpy(), truth[wanted.numpy()])
    assert (tiles.count, len(tiles), tiles.bands, tiles.size) == (5, 5, 4, 16)
    assert tiles.index("train").tolist() == [0, 3, 4]
    assert tiles.index("valid").tolist() == [2]
    assert torch.equal(again.labels, tiles.labels)
    assert len(pickle.dumps(tiles)) < 1000


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_raw_undoes_unit_between_the_edges(tmp_path: Path, dtype: str) -> None:
    tiles, _ = store(tmp_path, dtype)
    raw = tiles.read(torch.arange(5))
    unit = tiles.unit(raw)
    assert unit.dtype == torch.float32
    assert 0 <= unit.min() <= unit.max() <= 1
    back = tiles.raw(unit)
    assert back.dtype == raw.dtype
    low, high = tiles.low[:, None, None], tiles.high[:, None, None]
    inside = (raw >= low) & (raw <= high)
    assert inside.any()
    assert torch.equal(back[inside], raw[inside])
    assert torch.equal(back, torch.minimum(torch.maximum(raw.float(), low), high).round().to(raw.dtype))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_moments_are_those_of_all_pixels_of_the_training_tiles(tmp_path: Path, dtype: str) -> None:
    tiles, _ = store(tmp_path, dtype)
    deviation, mean = torch.std_mean(tiles.unit(tiles.read(tiles.index("train"))), (0, 2, 3), correction=0)
    torch.testing.assert_close(tiles.moments, (mean, deviation))


def test_the_deviation_of_a_constant_band_is_no_zero(tmp_path: Path) -> None:
    tiles, _ = store(tmp_path, "uint8")
    np.zeros((6, 4, 16, 16), np.uint8).tofile(tmp_path / SHARD)
    assert torch.allclose(tiles.moments[1], torch.tensor(1 / 255))


def test_a_folder_without_a_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gcl-custom fit-generator"):
        TileStore(tmp_path)


def test_few_entries_are_spread_from_end_to_end_or_every_so_many() -> None:
    ten = torch.arange(10, 20)
    assert spread(ten, 4).tolist() == [10, 13, 16, 19]
    assert thinned(ten, 4).tolist() == [10, 13, 16, 19]
    assert thinned(ten, 6).tolist() == [10, 12, 14, 16, 18]
    assert spread(ten, 12).tolist() == thinned(ten, 12).tolist() == ten.tolist()


@pytest.mark.parametrize("count", [2**24 + 4, 40_000_004])
def test_places_among_many_tiles_end_at_the_last_one(count: int) -> None:
    assert even_places(count, 1000)[-1].item() == count - 1
    many = torch.zeros(1, dtype=torch.long).expand(count)  # takes no memory
    assert len(spread(many, 1000)) == 1000
    assert even_places(2**24, 1000).dtype == torch.float32  # by which the published tiles were chosen


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (SHARD, b""), (SHARD, bytes(1000)), (INDEX, b""), (INDEX, b"{}"), (INDEX, b"\xff" * 100), (INDEX, "cut"),
        (INDEX, "header"), (INDEX, "split"), (INDEX, "labels"), (INDEX, "text"), (INDEX, "kind"),
        (INDEX, {"labels": 2}), (INDEX, {"labels": -2}), (INDEX, {"split": 3}), (INDEX, {"slots": -1}),
        (INDEX, {"slots": 6}),
    ],
)  # fmt: skip
def test_a_damaged_store_says_what_to_remove_and_the_command(
    tmp_path: Path, name: str, content: bytes | str | dict[str, int]
) -> None:
    folder = tmp_path / "run" / "tiles"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").touch()
    store(folder)
    columns = load_file(folder / INDEX)
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif isinstance(content, dict):
        ((column, value),) = content.items()
        lists = read_lists(folder)
        write_lists(folder, lists | {column: [value, *lists[column][1:]]})
    elif content == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    elif content == "header":
        save_file(columns, folder / name)
    elif content == "text":
        about = {"about": json.dumps(read_index(folder)[0])}
        save_file(columns | {"files.bytes": columns["files.bytes"][1:]}, folder / name, about)
    elif content == "kind":
        write_lists(folder, read_lists(folder) | {"multi_label": True})
    else:
        write_lists(folder, read_lists(folder) | {content: [0]})
    message = rf"{name} is damaged.*Remove the folder {folder}, then type: gcl-custom fit-generator --run run: it is"
    with pytest.raises(UserError, match=message):
        TileStore(folder).read(torch.arange(2))


def test_what_an_index_is_given_is_read_again(tmp_path: Path) -> None:
    files = ["a/1.tif", "b#c\n.png", "\udce9.png", "", "s.tif#0000064,0000000,0000032,0000032"]
    columns = {
        "slots": torch.tensor([4, 0, 1, 1, 2]), "split": torch.tensor([0, 1, 2, 0, 0], dtype=torch.int8),
        "labels": torch.rand(5, 3).round().bool(), "places": torch.rand(3, 2).T.contiguous().double(),
    }  # fmt: skip
    about = {"size": 16, "classes": ["é", "b"], "low": [0.1]}
    write_index(tmp_path, about, {"files": files, "none": [], **columns})
    said, found = read_index(tmp_path)
    assert said == about
    assert list(texts_in(found, "files")) == files
    assert list(texts_in(found, "none")) == []
    for name, column in columns.items():
        assert torch.equal(found[name], column)
        assert found[name].dtype == column.dtype
    written = (tmp_path / INDEX).read_bytes()
    write_index(tmp_path, about, {**columns, "none": [], "files": files})
    assert (tmp_path / INDEX).read_bytes() == written, "the same store has the same bytes"


def test_sources_are_made_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    real = Source.parse
    monkeypatch.setattr(Source, "parse", lambda text: parsed.append(text) or real(text))
    tiles, _ = store(tmp_path)
    tiles.read(tiles.index("train"))
    assert (len(tiles.sources), parsed) == (5, [])
    assert (tiles.sources[-1], parsed) == (Source("t"), ["t"])
    assert tiles.sources[1:3] == [Source("q"), Source("r")]


def test_a_folder_without_an_index_names_the_command_that_packs(tmp_path: Path) -> None:
    folder = tmp_path / "r" / "tiles"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no packed tiles.*Run: gcl-custom fit-generator RECIPE$"):
        TileStore(folder)
    (folder / "stage.json").touch()
    with pytest.raises(UserError, match=r"Run: gcl-custom fit-generator RECIPE --redo$"):
        TileStore(folder)
    (folder / "stage.json").unlink()
    (tmp_path / "r" / "recipe.yaml").touch()
    with pytest.raises(UserError, match=r"Run: gcl-custom fit-generator --run r$"):
        TileStore(folder)
    (tmp_path / "study" / "cells").mkdir(parents=True)
    folder.parent.rename(tmp_path / "study" / "stages")
    (tmp_path / "study" / "stages" / "recipe.yaml").unlink()
    with pytest.raises(UserError, match=r"Run: gcl-custom fit-generator --run study/cells/CELL$"):
        TileStore(tmp_path / "study" / "stages" / "tiles")


def test_each_tile_has_the_row_of_its_place_in_the_list() -> None:
    rows = TileRows(torch.tensor([7, 2, 4]), "only a few")
    assert rows.of(torch.tensor([4, 7, 7, 2])).tolist() == [2, 0, 0, 1]
    with pytest.raises(AssertionError, match="only a few"):
        rows.of(torch.tensor([4, 3]))
