import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import class_folders, colours, scenes_border, tiff

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles, packing_journal, read_tile
from gcl_custom.imagery.folders import FoundTile, Layout
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.splits import told
from gcl_custom.imagery.tile_store import INDEX, TileStore, read_index
from gcl_custom.measures.label_kinds import MULTI_LABEL
from gcl_custom.recipe.imagery import DataSettings, SplitLists, SplitSettings, SyntheticScenesSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def run_on(root: Path, runs: Path | None = None, **data: object) -> Run:
    settings = DataSettings(root=str(root), size=16, **data)
    return Run((runs or root.parent) / "run", Recipe(name="run", data=settings))


def packed(run: Run) -> TileStore:
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path)


def content(run: Run) -> str:
    return str(plan.tiles(run).facts["content"])


def test_pixels_labels_and_splits_are_those_of_the_files(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    for number in range(30):
        Image.fromarray(colours(number, 16)).save(root / ("forest", "water")[number % 2] / f"{number:03d}.png")
    tiles = packed(run_on(root))
    assert list(tiles.sources) == sorted(tiles.sources, key=str)
    assert (tiles.count, tiles.bands, tiles.dtype, tiles.rgb, tiles.classes) == (
        30,
        3,
        "uint8",
        True,
        ["forest", "water"],
    )
    for number, source in enumerate(tiles.sources):
        truth = np.asarray(Image.open(root / source.path)).transpose(2, 0, 1)
        assert np.array_equal(tiles.read(torch.tensor([number]))[0].numpy(), truth)
        assert tiles.classes[int(tiles.labels[number])] == Path(source.path).parent.name
    assert [len(tiles.index(name)) for name in ("train", "valid", "test")] == [22, 4, 4]
    assert tiles.low.tolist() == [0] * 3
    assert tiles.high.tolist() == [255] * 3


@pytest.mark.parametrize("block", [0, 2, 5])
@pytest.mark.parametrize("torn", ["pixels", "journal"])
def test_a_killed_packing_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, torn: str
) -> None:
    root = class_folders(tmp_path / "root")
    (root / "forest" / "copy.png").write_bytes((root / "forest" / "000.png").read_bytes())
    (root / "forest" / "bad.png").write_bytes(b"no image")
    monkeypatch.setattr(pack_tiles, "BLOCK_TILES", 5)
    whole, killed = run_on(root, tmp_path / "1"), run_on(root, tmp_path / "2")
    pack_tiles.pack_tiles(whole)

    append, blocks = packing_journal.PackingJournal.append, iter(range(100))

    def killing(self: packing_journal.PackingJournal, lines: list) -> None:
        if next(blocks) == block:
            raise KeyboardInterrupt
        append(self, lines)

    with monkeypatch.context() as patched:
        patched.setattr(packing_journal.PackingJournal, "append", killing)
        with pytest.raises(KeyboardInterrupt):
            pack_tiles.pack_tiles(killed)
    # A kill in the middle of a write leaves a part of a block, or of a line.
    path = plan.tiles(killed).path
    with (path / ("tiles-00000.bin" if torn == "pixels" else "packing.jsonl")).open("ab") as file:
        file.write(b'["forest/0')
    assert not plan.tiles(killed).done
    pack_tiles.pack_tiles(killed)
    for name in ("tiles-00000.bin", "tiles.safetensors", "packing.jsonl", "unusable.txt"):
        assert (path / name).read_bytes() == (plan.tiles(whole).path / name).read_bytes()
    assert content(whole) == content(killed)


def test_only_what_changed_is_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "root")
    run = run_on(root)
    pack_tiles.pack_tiles(run)
    before = content(run)
    assert pack_tiles.changed(run) is None
    decoded: list[bytes] = []
    real = read_tile.tile_from
    monkeypatch.setattr(read_tile, "tile_from", lambda data, *rest: decoded.append(data) or real(data, *rest))

    pack_tiles.pack_tiles(run)
    assert decoded == []

    os.utime(root / "forest" / "000.png", (1, 1))
    assert pack_tiles.changed(run) is not None
    pack_tiles.pack_tiles(run)
    assert (decoded, content(run), pack_tiles.changed(run)) == ([], before, None)

    (root / "forest" / "000.png").rename(root / "forest" / "renamed.png")
    Image.fromarray(colours(99)).save(root / "water" / "001.png")
    (root / "water" / "003.png").unlink()
    Image.fromarray(colours(100)).save(root / "water" / "new.png")
    assert str(pack_tiles.changed(run)).endswith("have changed since they were packed: 2 added, 1 altered, 2 gone")
    pack_tiles.pack_tiles(run)
    assert len(decoded) == 2
    assert content(run) != before
    again = run_on(root, tmp_path / "fresh")
    renewed, fresh = TileStore(plan.tiles(run).path), packed(again)
    every = torch.arange(fresh.count)
    assert list(renewed.sources) == list(fresh.sources)
    assert torch.equal(renewed.read(every), fresh.read(every))
    assert content(run) == content(again)


def test_tiles_without_their_index_are_packed_again_only_if_asked_for(tmp_path: Path) -> None:
    run = run_on(class_folders(tmp_path / "root"))
    before, digest = packed(run), content(run)
    later = run.stage("later", {}, [plan.tiles(run)])
    later.begin()
    later.finish()
    (before.path / INDEX).unlink()
    (before.path / "tiles-00000.bin").unlink()
    with pytest.raises(UserError, match=r"holds no packed tiles.*Run: gcl-custom fit-generator .*--redo$"):
        pack_tiles.pack_tiles(run)
    again = packed(Run(run.path, run.recipe, redo=True))
    every = torch.arange(again.count)
    assert (content(run), again.read(every).shape) == (digest, (30, 3, 16, 16))
    assert run.stage("later", {}, [plan.tiles(run)]).done, "the same tiles were packed"


@pytest.mark.parametrize("what", ["added", "emptied", "labels"])
def test_tiles_from_which_something_was_made_are_packed_anew_only_if_asked_for(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished backbone would be refused if the tiles under it were replaced."""
    root = class_folders(tmp_path / "root")
    run = run_on(root)
    before = list(packed(run).sources)
    made = run.stage("later", {}, [plan.tiles(run)])
    made.begin()
    made.finish()
    if what == "added":
        Image.fromarray(colours(99)).save(root / "water" / "new.png")
    elif what == "emptied":
        for path in root.rglob("*.png"):
            path.unlink()
    else:
        (root / "forest").rename(root / "wood")
    capsys.readouterr()
    assert list(packed(run).sources) == before
    said = " ".join(capsys.readouterr().out.split())
    assert {"added": ": 1 added.", "emptied": "holds no image", "labels": "15 added, 15 gone"}[what] in said
    assert "gcl-custom run" in said
    assert "recipe.yaml --run NEW_NAME" in said
    assert run.stage("later", {}, [plan.tiles(run)]).done
    if what == "added":
        assert len(packed(Run(run.path, run.recipe, redo=True)).sources) == len(before) + 1
        assert run.stage("later", {}, [plan.tiles(run)]).stale


def test_packed_tiles_outlive_their_files(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    run = run_on(root)
    pack_tiles.pack_tiles(run)
    root.rename(tmp_path / "elsewhere")
    assert pack_tiles.changed(run) is None
    pack_tiles.pack_tiles(run)


def test_unusable_files_are_listed_with_their_reasons(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    whole = (root / "forest" / "000.png").read_bytes()
    (root / "forest" / "text.jpg").write_text("a text")
    (root / "forest" / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(colours(0, 8)).save(root / "water" / "tiny.png")
    Image.fromarray(colours(0)).convert("L").save(root / "water" / "grey.jpg")
    tiff(root / "water" / "four.tif", np.ones((4, 16, 16), dtype=np.uint16))
    tiles = packed(run_on(root, bad_files=0.2))
    assert tiles.count == 31
    assert Source("water/grey.jpg") in tiles.sources
    listed = dict(
        line.split("\t")
        for line in (plan.tiles(run_on(root, bad_files=0.2)).path / "unusable.txt").read_text().splitlines()
    )
    assert sorted(listed) == ["forest/cut.png", "forest/text.jpg", "water/four.tif", "water/tiny.png"]
    assert listed["forest/text.jpg"] == "not an image"
    assert listed["forest/cut.png"].startswith("truncated or damaged")
    assert listed["water/four.tif"] == "number of bands (4, the data set has 3)"
    assert "8 x 8 px, data.size is 16" in listed["water/tiny.png"]
    with pytest.raises(UserError, match=r"4 of 35 files .*1 not an image.*data\.bad_files allows\s+5%") as refusal:
        pack_tiles.pack_tiles(run_on(root, tmp_path / "strict"))
    assert str(refusal.value).count("\n  ") == 4
    assert packed(run_on(root, tmp_path / "strict", bad_files=0.2)).count == 31


def test_nodata_at_the_border_of_a_scene_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The share of such files has a limit of its own."""
    root = scenes_border(tmp_path / "root", tiles=40, empty=5)
    run = run_on(root)
    assert packed(run).count == 40
    facts = plan.tiles(run).facts
    assert (facts["unusable"], facts["nodata"]) == (0, 5)
    out = capsys.readouterr().out
    assert "5 of 45 files are left out, as more than 50% of their pixels hold no data (data.nodata)" in out
    assert "unusable" not in out
    listed = (plan.tiles(run).path / "unusable.txt").read_text().splitlines()
    assert listed[0] == "040.tif\tnodata (75% of its pixels; data.nodata allows 50%)"
    assert len(listed) == 5
    with pytest.raises(UserError, match=r"5 of 45 files are left out.*data\.nodata_files allows 10%\.\n  040\.tif"):
        packed(run_on(root, tmp_path / "strict", nodata_files=0.1))
    assert packed(run_on(root, tmp_path / "all", nodata=0.8)).count == 45


def test_a_file_that_becomes_readable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "root")
    real = Path.read_bytes

    def denied(self: Path) -> bytes:
        if self.name == "004.png":
            raise PermissionError(13, "Permission denied")
        return real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", denied)
        with pytest.raises(UserError, match="1 cannot be opened"):
            pack_tiles.pack_tiles(run_on(root, bad_files=0.0))
    assert packed(run_on(root, bad_files=0.0)).count == 30


def test_rasters_of_sixteen_bits_get_edges_from_the_train_tiles(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for split, low in (("train", 1000), ("valid", 5000), ("test", 9000)):
        (root / split).mkdir(parents=True)
        for number in range(4):
            values = np.random.default_rng(number).integers(low, low + 1000, (6, 20, 20)).astype(np.int16)
            values[:, :4] = -999
            tiff(root / split / f"{number}.tif", values, nodata=-999)
    tiles = packed(run_on(root))
    assert (tiles.bands, tiles.dtype, tiles.rgb, tiles.classes) == (6, "int16", False, [])
    assert tiles.labels.unique().tolist() == [-1]
    assert torch.all((tiles.low >= 1000) & (tiles.low < 1200))  # resizing narrows the range
    assert torch.all((tiles.high > 1800) & (tiles.high <= 2000))
    assert tiles.unit(tiles.read(tiles.index("test")))[:, :, 8:].min() == 1


def test_negative_values_are_stored_and_scaled_as_they_are(tmp_path: Path) -> None:
    """Radar in decibels times 100, all below zero."""
    root = tmp_path / "root"
    root.mkdir()
    rng = np.random.default_rng(0)
    files = {f"{number}.tif": rng.integers(-2500, -500, (2, 16, 16)).astype(np.int16) for number in range(8)}
    for name, values in files.items():
        values[:, :2] = -32768
        tiff(root / name, values, nodata=-32768)
    tiles = packed(run_on(root))
    assert tiles.dtype == "int16"
    for number, source in enumerate(tiles.sources):
        pixels = tiles.read(torch.tensor([number]))
        assert np.array_equal(pixels[0, :, 2:].numpy(), files[source.path][:, 2:])
        assert (pixels[0, :, :2] == -32768).all()
        assert not tiles.unit(pixels)[0, :, :2].any()
        assert torch.equal(
            tiles.raw(tiles.unit(pixels))[..., 5:, :].clamp(-2400, -600), pixels[..., 5:, :].clamp(-2400, -600)
        )
    assert torch.all((tiles.low >= -2500) & (tiles.low < -2450))
    assert torch.all((tiles.high > -550) & (tiles.high < -500))


@pytest.mark.parametrize(("names", "rgb"), [(["red", "green", "blue"], True), (["nir", "red", "green"], False)])
def test_the_recipe_names_bands_without_a_card(
    names: list[str], rgb: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders are recognised all the same, and a file of other bands is unusable."""
    root = class_folders(tmp_path / "root")
    tiff(root / "forest" / "five.tif", np.ones((5, 16, 16), np.uint8))
    run = run_on(root, bands=names)
    tiles, found = packed(run), survey(run.recipe.data)
    assert (tiles.count, tiles.bands, tiles.rgb, tiles.classes) == (30, 3, rgb, ["forest", "water"])
    assert (found.form.bands, found.rgb) == (3, rgb)
    with pytest.raises(UserError, match="has 1 usable tile,"):
        packed(run_on(root, tmp_path / "more", bands=[*names, "fourth", "fifth"], bad_files=1.0))


def test_an_alpha_band_is_said_in_packing_and_in_the_check_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "root")
    for path in root.rglob("*.png"):
        Image.open(path).convert("RGBA").save(path)
    run = run_on(root)
    for look in (lambda: survey(run.recipe.data), lambda: pack_tiles.pack_tiles(run)):
        look()
        said = capsys.readouterr().out
        assert "30 files have an alpha band: it is dropped" in said
        assert "name all bands (data.bands)" in said


def test_a_scene_that_is_shrunk_to_one_tile_is_said_in_packing_and_in_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "root")
    Image.fromarray(colours(0, 256)).save(root / "forest" / "scene.jpg")
    tiff(root / "forest" / "scene.tif", np.ones((3, 300, 256), dtype=np.uint8))
    Image.fromarray(colours(0, 255)).save(root / "forest" / "large.jpg")
    run = run_on(root)
    for look in (lambda: survey(run.recipe.data), lambda: pack_tiles.pack_tiles(run)):
        look()
        assert "2 files are 16 times as large as data.size or more" in capsys.readouterr().out


def test_a_given_split_that_is_missing_is_drawn_from_train(tmp_path: Path) -> None:
    root = tmp_path / "root"
    class_folders(root / "train", 40)
    class_folders(root / "test", 10)
    tiles = packed(run_on(root))
    assert [len(tiles.index(name)) for name in ("train", "valid", "test")] == [32, 8, 10]
    assert all(tiles.sources[tile].path.startswith("test/") for tile in tiles.index("test").tolist())


def test_copies_in_different_splits_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    for split in ("train", "valid", "test"):
        class_folders(root / split, 6 if split == "train" else 2)
    tiles = packed(run_on(root))
    assert tiles.count == 10
    assert plan.tiles(run_on(root)).facts["duplicates_across_splits"] == 6
    assert "6 tiles are copies of one another" in capsys.readouterr().out


def test_synthetic_scenes_are_drawn_before_packing(tmp_path: Path) -> None:
    run = run_on(tmp_path / "root", synthetic=SyntheticScenesSettings(tiles=40, pixels=16))
    tiles = packed(run)
    assert (tiles.count, len(tiles.classes)) == (40, 5)
    pack_tiles.pack_tiles(run)


def test_windows_of_a_scene_are_packed_as_tiles_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing makes windows yet: here the layout does."""
    root = tmp_path / "root"
    root.mkdir()
    scenes = {name: colours(number, 64).transpose(2, 0, 1) for number, name in enumerate(("east.tif", "west.tif"))}
    for name, pixels in scenes.items():
        tiff(root / name, pixels)
    windows = [Window(column, row, 16, 16) for column in range(0, 64, 16) for row in range(0, 64, 16)]
    found = [FoundTile(Source(name, window), None, name[:4]) for name in scenes for window in windows]
    monkeypatch.setattr(pack_tiles, "layout_of", lambda *rest: Layout(found, ["east", "west"], []))
    run = run_on(root)
    tiles = packed(run)
    assert list(tiles.sources) == [tile.source for tile in found]
    for number, (path, window) in enumerate(tiles.sources):
        rows, columns = (slice(*ends) for ends in window.ends)
        assert np.array_equal(tiles.read(torch.tensor([number]))[0].numpy(), scenes[path][:, rows, columns])
        assert tiles.classes[int(tiles.labels[number])] == path[:4]
    assert [len(tiles.index(name)) for name in ("train", "valid", "test")] == [16, 8, 8]
    assert plan.tiles(run).facts["duplicates_across_splits"] == 0
    assert pack_tiles.changed(run) is None
    before = content(run)
    monkeypatch.setattr(read_tile, "tile_from", None)  # nothing is decoded again
    assert packed(Run(run.path, run.recipe, redo=True)).sources[:] == tiles.sources[:]
    assert content(run) == before


def test_too_few_tiles_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 1 usable tile, and none for the valid and the test split"):
        pack_tiles.pack_tiles(run_on(class_folders(tmp_path / "one", 1)))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        pack_tiles.pack_tiles(run_on(tmp_path / "none"))
    with pytest.raises(UserError, match="there is no folder"):
        pack_tiles.pack_tiles(run_on(tmp_path / "missing"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jpg").write_text("text")
    with pytest.raises(UserError, match=r"no file of .* can be read \(1 looked at\).* not an image"):
        pack_tiles.pack_tiles(run_on(tmp_path / "texts"))


def test_a_class_without_a_usable_train_tile_is_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    (root / "aspen").mkdir()
    (root / "aspen" / "bad.jpg").write_text("text")
    tiles = packed(run_on(root))
    assert tiles.classes == ["forest", "water"]
    assert set(tiles.labels.tolist()) == {0, 1}


def test_more_tiles_than_room_are_refused_before_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "root")
    monkeypatch.setattr(pack_tiles.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"30 tiles need .* are free"):
        pack_tiles.pack_tiles(run_on(root))


def test_other_settings_start_the_journal_anew(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    pack_tiles.pack_tiles(run_on(root))
    run = run_on(root)
    run.redo = True
    smaller = Run(run.path, Recipe(name="run", data=DataSettings(root=str(root), size=24)), redo=True)
    assert packed(smaller).size == 24
    journal = (plan.tiles(smaller).path / "packing.jsonl").read_text().splitlines()
    assert json.loads(journal[0])["size"] == 24
    assert len(journal) == 31


def test_real_data_sets_are_packed_whole(real_data: Path, tmp_path: Path) -> None:
    given = DataSettings(root=str(real_data / "wildfire"), card="wildfire-prediction", size=128)
    run = Run(tmp_path / "wildfire", Recipe(name="wildfire", data=given))
    tiles = packed(run)
    assert [len(tiles.index(name)) for name in ("train", "valid", "test")] == [1680, 360, 360]
    assert tiles.classes == ["nowildfire", "wildfire"]
    assert plan.tiles(run).facts["unusable"] == 0


def test_several_labels_a_tile_come_from_a_table_and_a_changed_table_is_noticed(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    sets = {file: {"wet"} if number % 3 else {"dry", "wet"} for number, file in enumerate(files[:-1])}

    def write() -> None:
        rows = [f"{file},{';'.join(sorted(names))}" for file, names in sets.items()]
        (root / "labels.csv").write_text("\n".join(["file,labels", *rows]))

    write()
    run = run_on(root, labels="labels.csv")
    store = packed(run)
    assert (store.kind, store.classes) == (MULTI_LABEL, ["dry", "wet"])
    found = {
        source.path: {store.classes[i] for i in row.nonzero()}
        for source, row in zip(store.sources, store.labels, strict=True)
    }
    assert found == sets | {files[-1]: set()}
    assert store.has_label.tolist() == [True] * (len(files) - 1) + [False]
    assert all(store.labels[store.index(split)].any(0).all() for split in ("train", "valid", "test"))
    before = content(run)
    assert pack_tiles.changed(run) is None
    sets[files[0]] = {"dry"}
    write()
    assert packed(run).labels[0].tolist() == [True, False]
    assert content(run) != before


def towns(root: Path) -> Path:
    """Tiles in class folders whose names hold longitude and latitude: 12 towns of 5 tiles, a degree apart."""
    for town in range(12):
        for tile in range(5):
            folder = root / ("forest", "water")[town % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colours(5 * town + tile)).save(folder / f"{town}.5000{tile},45.5.png")
    return root


def test_places_in_names_and_blocks_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_on(towns(tmp_path / "root"), split=SplitSettings(by="blocks", block_degrees=1.0))
    tiles = packed(run)
    assert tiles.places is not None
    assert tiles.blocks is not None
    assert tiles.places[0].tolist() == [0.5, 45.5]
    assert sorted(torch.bincount(tiles.blocks).tolist()) == [5] * 12
    for block in range(12):
        assert len(tiles.split[tiles.blocks == block].unique()) == 1
    facts = plan.tiles(run).facts
    assert facts["split"] == "by blocks of 1 degrees"
    assert facts["groups"] == {"train": 8, "valid": 2, "test": 2}
    said = capsys.readouterr().out
    assert "whole blocks at a time (8 train, 2 valid, 2 test)" in said
    assert "Of 10 test tiles 0% lie within 1 km of a training tile" in said
    near = Run(run.path, Recipe(name="run", data=run.recipe.data.model_copy(update={"split": NEAR})))
    assert plan.tiles(near).done, "what counts as near changes no split"
    assert "100% lie within 1000 km" in told(near)


NEAR = SplitSettings(by="blocks", block_degrees=1.0, near_km=1000.0)


def test_places_that_files_state_outlive_a_second_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_on(tmp_path / "root", synthetic=SyntheticScenesSettings(tiles=40, pixels=16))
    places = packed(run).places
    assert places is not None
    assert np.isfinite(places).all()
    monkeypatch.setattr(read_tile, "place_of", None)  # nothing is read again
    again = packed(Run(run.path, run.recipe, redo=True)).places
    assert again is not None
    assert np.array_equal(again, places)


def test_a_store_without_places_holds_nothing_of_them(tmp_path: Path) -> None:
    run = run_on(class_folders(tmp_path / "root"))
    tiles = packed(run)
    assert (tiles.places, tiles.blocks) == (None, None)
    assert not {"places", "blocks"} & read_index(tiles.path)[1].keys()
    assert not {"by", "near_km", "block_km", "lists"} & plan.tiles(run).settings["data"]["split"].keys(), (
        "what is not given changes no tile"
    )


def test_copies_and_near_duplicates_across_splits_are_told_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for split in ("train", "valid", "test"):
        (root / split).mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((24, 24))) for _ in range(12)
    ]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / ("train", "valid", "test")[number % 3] / f"{number}.png")
    Image.fromarray(pictures[0]).save(root / "test" / "copy.png")
    Image.fromarray(np.clip(pictures[3] * 0.9 + 9, 0, 255).astype(np.uint8)).save(root / "test" / "darker.png")
    run = run_on(root)
    packed(run)
    facts = plan.tiles(run).facts
    assert (facts["duplicates_across_splits"], facts["near_duplicates_across_splits"]) == (2, 2)
    assert "2 tiles show nearly the same picture as one in another split, such as test/darker.png and" in (
        capsys.readouterr().out
    )
    assert (plan.tiles(run).path / "duplicates.txt").read_text() == (
        "same content\ttrain/0.png\ttest/copy.png\nnearly the same picture\ttest/darker.png\ttrain/3.png\n"
    )
    survey(run.recipe.data)
    said = capsys.readouterr().out
    assert "2 tiles are copies of one another in different splits" in said
    assert "2 tiles show nearly the same picture" in said


def test_lists_give_the_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "root")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    (root / "train.txt").write_text("".join(f"{name} 0\n" for name in names[:20]))
    (root / "test.txt").write_text("".join(f"{Path(name).name}\n" for name in names[20:26]))
    data = {"train": "train.txt", "test": "test.txt"}
    run = run_on(root, split=SplitSettings(lists=SplitLists(**data)))
    tiles = packed(run)
    assert {str(tiles.sources[number]) for number in tiles.index("test").tolist()} == set(names[20:26])
    assert tiles.count == 26
    assert len(tiles.index("valid")) > 0, "drawn from the training files"
    out = capsys.readouterr().out
    assert "images that no list of data.split.lists names, left out: 4, such as" in out


def test_folders_do_not_count_where_a_division_is_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for split, number in (("train", 20), ("test", 20)):
        (root / split).mkdir(parents=True)
        for tile in range(number):
            Image.fromarray(colours(tile + 50 * len(split))).save(root / split / f"{tile}.png")
    tiles = packed(run_on(root, split=SplitSettings(by="random")))
    where = {str(tiles.sources[number])[:5] for number in tiles.index("test").tolist()}
    assert where == {"train", "test/"}
    assert len(tiles.index("test")) == 6
