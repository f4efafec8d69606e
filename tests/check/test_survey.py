from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rasterio import Affine
from small_images import class_folders, colours, scenes_border, several_labels, tiff

from gcl_custom.check import survey
from gcl_custom.check.check import show_tiles
from gcl_custom.errors import UserError
from gcl_custom.imagery import mask_files
from gcl_custom.imagery.decoding import Form
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings, SyntheticScenesSettings
from gcl_custom.recipe.recipe import Recipe


def test_survey_finds_what_packing_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "root", 40)
    (root / "water" / "text.jpg").write_text("text")
    tiles = survey.survey(DataSettings(root=str(root), size=16))
    assert (tiles.form, tiles.rgb, tiles.classes) == (Form(3, "uint8"), True, ["forest", "water"])
    assert [tiles.count(split) for split in ("train", "valid", "test")] == [28, 6, 6]
    assert tiles.count("train", 1) == 14
    out = capsys.readouterr().out
    assert "unusable files: 1 (1 not an image; all 41 files were read)" in out
    assert "water/text.jpg: not an image" in out


def test_scenes_that_are_not_drawn_yet_are_counted(tmp_path: Path) -> None:
    data = DataSettings(
        root=str(tmp_path / "none"), size=16, synthetic=SyntheticScenesSettings(tiles=100, near_infrared=True)
    )
    tiles = survey.survey(data)
    assert (tiles.form, tiles.rgb, len(tiles.classes)) == (Form(4, "uint16"), False, 5)
    assert [tiles.count(split, 0) for split in ("train", "valid", "test")] == [14, 3, 3]
    assert not (tmp_path / "none").exists()


def test_what_would_end_packing_ends_the_check(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        survey.survey(DataSettings(root=str(tmp_path / "none"), size=16))
    with pytest.raises(UserError, match="none for the valid and the test split"):
        survey.survey(DataSettings(root=str(class_folders(tmp_path / "one", 1)), size=16))


@pytest.mark.parametrize("name", ["[red]", "[/x]", ":x:", "\x1b[31m"])
def test_names_of_classes_and_files_are_shown_as_they_are(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "root")
    (root / "forest").rename(root / name.replace("/", ""))
    (root / "water" / f"{name.replace('/', '')}.jpg").write_text("text")
    data = DataSettings(root=str(root), size=16)
    show_tiles(survey.survey(data), Recipe(name="r", data=data))
    out, shown = capsys.readouterr().out, name.replace("/", "").replace("\x1b", r"\x1b")
    assert f" {shown} " in out
    assert f"water/{shown}.jpg: not an image" in out


def test_where_no_file_can_be_used_the_check_ends_in_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are of 24 px."""
    root = class_folders(tmp_path / "root", 6)
    with pytest.raises(UserError, match=r"no file of .* can be used \(6 smaller than data\.size; all 6 files"):
        survey.survey(DataSettings(root=str(root), size=32))
    assert "forest/000.png: smaller than data.size (24 x 24 px, data.size is 32" in capsys.readouterr().out


def test_of_many_files_some_are_read_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "MOST_READ", 20)
    root = class_folders(tmp_path / "root", 40)
    for path in sorted((root / "forest").iterdir())[::2]:
        path.write_text("text")
    survey.survey(DataSettings(root=str(root), size=16))
    out = capsys.readouterr().out
    assert "20 of 40 files were read" in out
    assert "packing would stop: 10 of 20 files are unusable (10 not an image); data.bad_files allows 5%" in out


@pytest.mark.parametrize(
    ("side", "crs", "scenes", "told"),
    [(64, "EPSG:32633", None, True), (56, "EPSG:32633", None, False), (64, None, None, False),
     (64, "EPSG:32633", ScenesSettings(tile=16), False)],
)  # fmt: skip
def test_files_with_coordinates_that_are_far_larger_than_a_tile_may_be_scenes(
    side: int, crs: str | None, scenes: ScenesSettings | None, told: bool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "root").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(1, 99, (3, side, side)).astype(np.uint16)
        transform = Affine(10, 0, 500_000 + 10_000 * number, 0, -10, 5_000_000)
        tiff(tmp_path / "root" / f"{number}.tif", pixels, **({"crs": crs, "transform": transform} if crs else {}))
    survey.survey(DataSettings(root=str(tmp_path / "root"), size=16, scenes=scenes))
    said = "6 files with coordinates are 4 times as large as data.size or more" in capsys.readouterr().out
    assert said == told


def test_of_many_masks_some_are_read_and_the_others_are_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "root" / name for name in ("images", "masks")]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(60):
        Image.fromarray(colours(number)).save(folders[0] / f"{number:03d}.png")
        if number >= 20:  # the first third has none; of the others, every second has water
            Image.new("L", (24, 24), number % 4 // 2).save(folders[1] / f"{number:03d}.png")
    data = DataSettings(root=str(tmp_path / "root"), size=16)
    every = survey.survey(data)
    read: list[str] = []
    real = mask_files.read_mask
    monkeypatch.setattr(mask_files, "read_mask", lambda tile, *rest: read.append(tile) or real(tile, *rest))
    monkeypatch.setattr(survey, "MOST_READ", 20)
    found = survey.survey(data)
    assert len(read) == 20
    assert "20 of 40 masks were read: classes, splits and shares of labels are estimated" in capsys.readouterr().out
    assert found.classes == every.classes == ["0", "1"]
    assert torch.equal(found.labels, every.labels)  # here masks come in equal pairs
    assert found.count("train", -1) == every.count("train", -1) > 0


def test_nodata_is_counted_apart_as_in_packing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = scenes_border(tmp_path / "root", tiles=20, empty=6)
    (root / "text.tif").write_text("text")
    tiles = survey.survey(DataSettings(root=str(root), size=16))
    assert len(tiles.split) == 20
    out = capsys.readouterr().out
    assert "unusable files: 1 (1 not an image; all 27 files were read)" in out
    assert "6 of 27 files are left out, as more than 50% of their pixels hold no data (data.nodata)" in out
    assert "packing would stop" not in out
    survey.survey(DataSettings(root=str(root), size=16, nodata_files=0.2))
    assert "packing would stop: 6 of 27 files are left out" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no file of .* can be used \(1 not an image, 26 nodata"):
        survey.survey(DataSettings(root=str(scenes_border(root, tiles=0, empty=26)), size=16))


def test_copies_in_different_splits_are_named_as_in_packing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    for split in ("train", "valid", "test"):
        class_folders(root / split, 6 if split == "train" else 2)
    survey.survey(DataSettings(root=str(root), size=16))
    said = "6 tiles are copies of one another in different splits, such as train/forest/000.png and test/forest/000.png"
    assert said in capsys.readouterr().out


def test_of_several_labels_a_tile_each_class_is_counted_and_shares_keep_every_class(tmp_path: Path) -> None:
    data = DataSettings(root=str(several_labels(tmp_path / "root")), size=16, labels="labels.csv")
    tiles = survey.survey(data)
    assert sum(tiles.count(split, 0) for split in ("train", "valid", "test")) == 36
    assert sum(tiles.count(split, 1) for split in ("train", "valid", "test")) == 18
    assert sum(tiles.count(split, -1) for split in ("train", "valid", "test")) == 4
    assert tiles.share(0.5) == round(0.5 * len(tiles.labelled))
    assert tiles.share(0.001) == 1  # one tile with both


def test_forms_of_files_copies_and_blank_tiles_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "root", 20)
    (root / "water" / "copy.png").write_bytes((root / "water" / "001.png").read_bytes())
    Image.new("RGB", (30, 20)).save(root / "water" / "blank.jpg")
    found = survey.survey(DataSettings(root=str(root), size=16))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "PNG 24 × 24 3 uint8 none 21" in lines
    assert "JPEG 30 × 20 3 uint8 none 1" in lines
    assert "2 tiles are copies of one another, such as water/001.png and water/copy.png" in lines
    assert "1 tile is blank, or nearly so, as no band varies by a hundredth of its range: water/blank.jpg" in lines
    assert found.inventory is not None
    assert (found.inventory.read, found.inventory.of, len(found.faults)) == (22, 22, 0)
