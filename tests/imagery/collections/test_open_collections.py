"""Collections through what packing, check and embed see of them: layouts, tiles and their digests."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from collected_images import files_below, parquet, png, tarred, zipped
from found_layout import tiles_in
from PIL import Image
from small_images import class_folders

from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.collections import open_collections
from gcl_custom.imagery.collections.open_collections import collection_at, holding, states_of_files
from gcl_custom.imagery.decoding import Form, Tile, reading
from gcl_custom.imagery.folders import Layout, common_form
from gcl_custom.imagery.read_tile import read_tile
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import MULTI_LABEL
from gcl_custom.recipe.imagery import Card, DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

CARD = Card(name="c", title="t", source="s", licence="l", bands=["red", "green", "blue"])


def seen(layout: Layout) -> list[tuple[str, str | None, str | None]]:
    return [(str(tile.source), tile.split, tile.label) for tile in layout.tiles]


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "flat": lambda root: [Image.new("RGB", (24, 24)).save(root / f"{n}.png") for n in range(4)],
    "classes": lambda root: class_folders(root, 6),
    "splits": lambda root: [class_folders(root / split, 4) for split in ("train", "val", "test")],
    "below": lambda root: class_folders(root / "unpacked", 6),
}


@pytest.mark.parametrize("form", ["tiles.zip", "tiles.tar", "tiles.tar.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_archive_has_the_tiles_labels_and_splits_of_its_folder(form: str, layout: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    LAYOUTS[layout](tmp_path / "root")
    root = (zipped if form == "tiles.zip" else tarred)(tmp_path / form, files_below(tmp_path / "root"))
    theirs, ours = tiles_in(tmp_path / "root"), tiles_in(root)
    assert seen(ours) == seen(theirs)
    assert ours.classes == theirs.classes
    data = DataSettings(root="r", size=16)
    with reading():
        assert common_form(root, ours.tiles, None) == common_form(tmp_path / "root", theirs.tiles, None)
        for tile in ours.tiles[:2]:
            inside, outside = (read_tile(r, tile.source, Form(3, "uint8"), data) for r in (root, tmp_path / "root"))
            assert inside.digest() == outside.digest()
            assert isinstance(made := inside.tile(), Tile)
            assert np.array_equal(made.pixels, outside.tile().pixels)


def test_a_card_and_a_table_hold_in_an_archive_too(tmp_path: Path) -> None:
    files = {f"{split}/{name}/{n}.png": png(n) for split in ("a", "b") for name in ("x", "y") for n in range(2)}
    root = zipped(tmp_path / "t.zip", {**files, "labels.csv": b"file,labels\na/x/0.png,one;two\nb/y/1.png,two\n"})
    card = CARD.model_copy(update={"splits": {"train": "b", "test": "a"}, "classes": ["y", "x"]})
    stated = tiles_in(root, card)
    assert stated.classes == ["y", "x"]
    assert seen(stated)[0] == ("a/x/0.png", "test", "x")
    table = tiles_in(root, labels="labels.csv")
    assert (table.classes, table.kind) == (["one", "two"], MULTI_LABEL)
    assert {path: label for path, _, label in seen(table) if label} == {"a/x/0.png": "one;two", "b/y/1.png": "two"}
    with pytest.raises(UserError, match=r"no file gone\.csv in"):
        tiles_in(root, labels="gone.csv")


def test_archives_beside_one_another_are_splits_classes_or_shards(tmp_path: Path) -> None:
    for split in ("train", "test"):
        zipped(tmp_path / "a" / f"{split}.zip", {"x/1.png": png(1), "y/2.png": png(2)})
    assert seen(tiles_in(tmp_path / "a")) == [
        ("test.zip/x/1.png", "test", "x"), ("test.zip/y/2.png", "test", "y"),
        ("train.zip/x/1.png", "train", "x"), ("train.zip/y/2.png", "train", "y"),
    ]  # fmt: skip
    for name in ("forest", "water"):
        zipped(tmp_path / "b" / f"{name}.zip", {"1.png": png(1)})
    assert [label for _, _, label in seen(tiles_in(tmp_path / "b"))] == ["forest", "water"]
    for number in range(3):
        tarred(tmp_path / "c" / f"{number:03d}.tar", {"x/1.png": png(1), "y/1.png": png(2)})
    assert tiles_in(tmp_path / "c").classes == ["x", "y"]
    chosen = tiles_in(tmp_path / "c" / "{001..002}.tar")
    assert [path for path, _, _ in seen(chosen)] == [f"{n}.tar/{x}/1.png" for n in ("001", "002") for x in "xy"]
    with pytest.raises(UserError, match=r"stands for 4 files; there is no .*003\.tar"):
        tiles_in(tmp_path / "c" / "{000..003}.tar")


def test_shards_find_the_file_of_class_names_and_their_splits(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text("land\nwater\n")
    for split, label in (("train", b"1"), ("val", b"0"), ("extra", b"0")):
        tarred(tmp_path / split / "000.tar", {"a.png": png(1), "a.cls": label})
    found = tiles_in(tmp_path)
    assert seen(found) == [("train/000.tar/a.png", "train", "water"), ("val/000.tar/a.png", "valid", "land")]
    assert found.notes == ["tiles in files of no split, left out: 1, such as extra/000.tar/a.png"]


def test_a_folder_with_images_is_no_collection(tmp_path: Path) -> None:
    zipped(tmp_path / "b" / "t.zip", {"1.png": png(1)})
    (tmp_path / "a.png").write_bytes(png(2))
    assert collection_at(tmp_path) is None
    assert seen(tiles_in(tmp_path)) == [("a.png", None, None)]
    assert holding(tmp_path, "a.png") is None
    assert holding(tmp_path, "folder.zip/a.png") is None


def test_kinds_that_lie_together_and_other_files_are_refused(tmp_path: Path) -> None:
    zipped(tmp_path / "both" / "t.zip", {"1.png": png(1)})
    parquet(tmp_path / "both" / "t.parquet", [png(1)], [0])
    with pytest.raises(UserError, match=r"files of several kinds, such as t\.parquet, t\.zip"):
        tiles_in(tmp_path / "both")
    (tmp_path / "t.tar.xz").write_text("x")
    with pytest.raises(UserError, match=r"a file of another form\. Tiles may lie in a folder, or in \.zip \.tar"):
        tiles_in(tmp_path / "t.tar.xz")
    with pytest.raises(UserError, match="there is no folder"):
        tiles_in(tmp_path / "none")


def test_a_collection_is_opened_once_and_again_after_a_change(tmp_path: Path) -> None:
    root = zipped(tmp_path / "t.zip", {"1.png": png(1)})
    first = collection_at(root)
    assert collection_at(root) is first
    assert holding(root, "1.png") is first
    zipped(root, {"1.png": png(1), "2.png": png(2)})
    os.utime(root, ns=(1, 1))
    again = collection_at(root)
    assert again is not None
    assert again.images == ["1.png", "2.png"]


@pytest.mark.parametrize("form", ["tiles.zip", "tiles.tar.gz"])
def test_packing_gives_the_store_of_the_folder_and_notices_a_change(form: str, tmp_path: Path) -> None:
    folder, pack = class_folders(tmp_path / "root"), zipped if form == "tiles.zip" else tarred
    files = files_below(folder)
    root = pack(tmp_path / form, dict(reversed(files.items())))

    def run(place: Path) -> Run:
        data = DataSettings(root=str(place), size=16)
        return Run(tmp_path / "runs" / place.name, Recipe(name="r", data=data))

    theirs, ours = run(folder), run(root)
    for each in (theirs, ours):
        pack_tiles.pack_tiles(each)
    assert pack_tiles.changed(ours) is None
    stores = [TileStore(plan.tiles(each).path) for each in (theirs, ours)]
    everything = torch.arange(len(files))
    assert torch.equal(stores[0].read(everything), stores[1].read(everything))
    assert (stores[0].sources[:], stores[0].classes) == (stores[1].sources[:], stores[1].classes)
    assert torch.equal(stores[0].labels, stores[1].labels)
    assert torch.equal(stores[0].split, stores[1].split)
    assert plan.tiles(theirs).facts["content"] == plan.tiles(ours).facts["content"]
    pack(root, {**files, "water/new.png": files["water/001.png"]})
    news = str(pack_tiles.changed(ours))
    assert all(part in news for part in ("1 added", "30 altered"))


def test_a_member_that_cannot_be_read_is_an_unusable_tile(tmp_path: Path) -> None:
    root = parquet(tmp_path / "t.parquet", [None, png(2, 24)], [0, 1])
    found = read_tile(root, Source("0000000"), Form(1, "uint8"), DataSettings(root="r", size=16))
    assert "no image in its row" in str(found.tile())
    assert found.place() is None


@pytest.mark.parametrize("inside", [False, True])
def test_an_archive_that_has_not_changed_is_not_listed_again(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_below(class_folders(tmp_path / "images"))
    archive = tarred(tmp_path / "packed" / "images.tar.gz", files)
    root = archive.parent if inside else archive
    settings = DataSettings(root=str(root), size=16)
    run = Run(tmp_path / "run", Recipe(name="run", data=settings))
    pack_tiles.pack_tiles(run)
    open_collections._opened.clear()  # as in another process
    opened: list[Path] = []
    real = open_collections._open
    monkeypatch.setattr(open_collections, "_open", lambda root, *rest: opened.append(root) or real(root, *rest))
    assert (pack_tiles.changed(run), opened) == (None, [])
    os.utime(archive, (1, 1))
    assert pack_tiles.changed(run) is not None
    assert opened == [root]


def test_the_states_of_files_are_those_below_a_folder_without_hidden_ones_and_runs(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a.png", "x/b.csv", "runs/c.png", "runs/stage.json", ".hidden", ".cache/d.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "x" / "again").symlink_to(root)
    (root / "x" / "gone.png").symlink_to(root / "nothing")
    states = states_of_files(root)
    assert {Path(path).relative_to(root).as_posix(): size for path, size, _ in states} == {
        "a.png": 5,
        "x/b.csv": 7,
        "x/gone.png": 0,
    }
