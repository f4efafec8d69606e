from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_costs import TINY

from gcl_custom import check, costs
from gcl_custom.costs import Cost, Costs
from gcl_custom.errors import UserError
from gcl_custom.imagery import Form
from gcl_custom.recipe import Data, Recipe, SyntheticScenes
from gcl_custom.runs import Run


def folder(root: Path, count: int = 40) -> Path:
    for number in range(count):
        place = root / ("forest", "water")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:03d}.png")
    return root


def recipe_for(data: Data, **sections: object) -> Recipe:
    return TINY.model_copy(update={"data": data, **sections})


def test_survey_finds_what_packing_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "root")
    (root / "water" / "text.jpg").write_text("text")
    tiles = check.survey(Data(root=str(root), size=16))
    assert (tiles.form, tiles.rgb, tiles.classes) == (Form(3, "uint8"), True, ["forest", "water"])
    assert [tiles.count(split) for split in ("train", "valid", "test")] == [28, 6, 6]
    assert tiles.count("train", 1) == 14
    out = capsys.readouterr().out
    assert "unusable files: 1 (1 not an image; all 41 files were read)" in out
    assert "water/text.jpg: not an image" in out


def test_of_many_files_some_are_read_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "MOST_READ", 20)
    root = folder(tmp_path / "root")
    for path in sorted((root / "forest").iterdir())[::2]:
        path.write_text("text")
    check.survey(Data(root=str(root), size=16))
    out = capsys.readouterr().out
    assert "20 of 40 files were read" in out
    assert "packing would stop: 50% are unusable, and data.bad_files allows 5%" in out


def test_scenes_that_are_not_drawn_yet_are_counted(tmp_path: Path) -> None:
    data = Data(root=str(tmp_path / "none"), size=16, synthetic=SyntheticScenes(tiles=100, near_infrared=True))
    tiles = check.survey(data)
    assert (tiles.form, tiles.rgb, len(tiles.classes)) == (Form(4, "uint16"), False, 5)
    assert [tiles.count(split, 0) for split in ("train", "valid", "test")] == [14, 3, 3]
    assert not (tmp_path / "none").exists()


def test_steps_time_and_disk_have_known_answers() -> None:
    """100 train tiles in batches of 4; every batch takes 1 s, keeps 10 bytes and has 7 parameters."""
    split = torch.tensor([0] * 100 + [1] * 20 + [2] * 20)
    tiles = check.Tiles(Form(3, "uint16"), True, ["a", "b"], torch.arange(140) % 2, split)
    one = Cost(1.0, 10, 7)
    generator = TINY.generator.model_copy(
        update={
            "tokenizer": TINY.tokens.tokenizer.model_copy(update={"epochs": 2, "adversary_start": 0.5}),
            "maskgit": TINY.tokens.maskgit.model_copy(update={"epochs": 3}),
        }
    )
    compare = TINY.compare.model_copy(
        update={"seeds": [0, 1], "arms": ["gcl", "supervised"], "fractions": [0.02, 0.5, 1.0], "finetune_steps": 10}
    )
    recipe = recipe_for(
        Data(root="none", size=16, symmetry="flip"),
        generator=generator,
        compare=compare,
        pretrain=TINY.pretrain.model_copy(update={"epochs": 4}),
    )
    slow = Cost(3.0, 20, 9)
    rows = {row.name: row for row in check.estimate(recipe, tiles, Costs(one, slow, one, one, one, one, one, one))}
    assert list(rows) == ["tiles", "tokenizer", "maskgit", "views", "pretrain", "other arms and seeds", "compare"]
    assert rows["tiles"].disk == 140 * 3 * 16 * 16 * 2
    assert rows["tokenizer"].seconds == 25 * 1 + 25 * 3  # 2 epochs of 25 steps, the second with the adversary
    assert rows["tokenizer"].memory == 20
    assert rows["maskgit"].seconds == 3 * 25 + 120 * 2 / 4  # and tokens of 120 tiles in two ways
    assert rows["maskgit"].disk == 16 * 7 + 240 * 16 * 2
    assert (rows["views"].seconds, rows["views"].disk) == (25, 100 * 3 * 16 * 16 * 2)
    assert rows["pretrain"].seconds == rows["other arms and seeds"].seconds == 4 * 25
    # Three trainings each (two seeds, a second learning rate): 10 half batches and 10 whole ones for both arms,
    # 4 epochs of 25 steps with all labels, fine-tuned and supervised; two pretrained and two untrained backbones embed
    # 140 tiles.
    assert rows["compare"].seconds == 2 * 3 * (10 * 0.5 + 10) + 2 * 3 * 100 + 4 * 140 / 4


def test_check_writes_nothing_and_shows_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(costs, "REPEATS", 1)
    root = folder(tmp_path / "root")
    before = sorted(tmp_path.rglob("*"))
    check.run(Run(tmp_path / "runs" / "r", recipe_for(Data(root=str(root), size=16))))
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    for text in ("forest", "4 x 4 tokens of 16 codes", "label fraction 0.1: 2 of 28", "tokenizer", "compare", "memory"):
        assert text in out


def test_without_labels_the_comparison_is_left_out(tmp_path: Path) -> None:
    tiles = check.Tiles(Form(3, "uint8"), True, [], torch.full((30,), -1), torch.arange(30) % 3)
    one = Cost(1.0, 10, 7)
    rows = [row.name for row in check.estimate(TINY, tiles, Costs(one, one, one, one, one, one, one, one))]
    assert rows == ["tiles", "tokenizer", "maskgit", "views", "reconstructions", "pretrain"]


def test_what_would_end_packing_ends_the_check(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        check.survey(Data(root=str(tmp_path / "none"), size=16))
    with pytest.raises(UserError, match="none for the valid and the test split"):
        check.survey(Data(root=str(folder(tmp_path / "one", 1)), size=16))


def test_of_several_labels_a_tile_each_class_is_counted_and_shares_keep_every_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "root")
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [f"{file},{'a;b' if number % 2 else 'a'}" for number, file in enumerate(files[:-4])]
    (root / "labels.csv").write_text("\n".join(["file,labels", *rows]))
    data = Data(root=str(root), size=16, labels="labels.csv")
    tiles = check.survey(data)
    assert sum(tiles.count(split, 0) for split in ("train", "valid", "test")) == 36
    assert sum(tiles.count(split, 1) for split in ("train", "valid", "test")) == 18
    assert sum(tiles.count(split, -1) for split in ("train", "valid", "test")) == 4
    assert tiles.share(0.5) == round(0.5 * len(tiles.labelled))
    assert tiles.share(0.001) == 1  # one tile with both
    check.show_tiles(tiles, recipe_for(data))
    assert "label fraction" in capsys.readouterr().out
