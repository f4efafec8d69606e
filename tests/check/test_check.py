from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import class_folders, several_labels
from tiny_recipe import TINY

from gcl_custom.check import check, step_costs, survey
from gcl_custom.check.estimates import StageCost
from gcl_custom.console import console
from gcl_custom.errors import UserError
from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs.run import Run
from gcl_custom.training.devices import described


def recipe_for(data: DataSettings, **sections: object) -> Recipe:
    return TINY.model_copy(update={"data": data, **sections})


def test_check_writes_nothing_and_shows_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_costs, "REPEATS", 1)
    root = class_folders(tmp_path / "root", 40)
    before = sorted(tmp_path.rglob("*"))
    check.check(Run(tmp_path / "runs" / "r", recipe_for(DataSettings(root=str(root), size=16))))
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    for text in ("forest", "4 x 4 tokens of 16 codes", "label fraction 0.1: 2 of 28", "tokenizer", "compare", "memory"):
        assert text in out


def test_times_are_said_to_be_of_the_device_that_the_recipe_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(console, "_width", 250)
    recipe = recipe_for(DataSettings(root="x", size=16), hardware=HardwareSettings(accelerator="cpu"))
    check.show_costs([StageCost("pretrain", "1 step of 4", 1.0, 10, 7)], Run(tmp_path / "r", recipe))
    assert f"measured steps on {described(torch.device('cpu'))}, as busy" in capsys.readouterr().out


def test_shares_of_several_labels_a_tile_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataSettings(root=str(several_labels(tmp_path / "root")), size=16, labels="labels.csv")
    check.show_tiles(survey.survey(data), recipe_for(data))
    said = capsys.readouterr().out
    assert "label fraction" in said
    assert "mean average precision (mAP)" in said


def test_a_class_without_a_tile_to_validate_or_test_on_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "root", 20)
    for path in sorted((root / "water").iterdir())[2:]:
        path.unlink()
    data = DataSettings(root=str(root), size=16)
    check.show_tiles(survey.survey(data), recipe_for(data))
    said = capsys.readouterr().out
    assert "no valid tile of 1 class: water" in said
    assert "no test tile of 1 class: water" in said
    assert "mAP" not in said


def test_a_backbone_that_does_not_take_the_tiles_is_refused(tmp_path: Path) -> None:
    recipe = recipe_for(DataSettings(root=str(class_folders(tmp_path / "root", 20)), size=16))
    refused = recipe.model_copy(
        update={"pretrain": recipe.pretrain.model_copy(update={"backbone": "halonet_h1", "stem": "standard"})}
    )
    with pytest.raises(UserError, match="halonet_h1 does not take pictures of 16 px"):
        check.check(Run(tmp_path / "runs" / "r", refused))


def test_files_are_checked_where_they_are(tmp_path: Path) -> None:
    data = DataSettings(root="gone", size=16, store=StoreSettings(address="s3://bucket/tiles"))
    with pytest.raises(UserError, match=r"files below data\.root\. Where they are, leave out data\.store"):
        check.check(Run(tmp_path / "runs" / "r", recipe_for(data)))


def test_a_study_on_imagenet_is_reported_before_anything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped recipe on a folder laid out like ImageNet: no weights, no network, and yet all that is known."""
    monkeypatch.setattr(step_costs, "REPEATS", 1)
    monkeypatch.setattr(console, "_width", 250)
    monkeypatch.setattr(check, "LARGE", 1_000_000)
    monkeypatch.chdir(tmp_path)
    for split, each in (("train", 8), ("val", 2)):
        for wnid in ("n01440764", "n01443537", "n02094433"):
            place = tmp_path / "imagenet" / split / wnid
            place.mkdir(parents=True)
            for number in range(each):
                colour = tuple(np.random.default_rng(number).integers(0, 256, 3).tolist())
                Image.new("RGB", (180 + 40 * number, 260), colour).save(place / f"{wnid}_{number}.JPEG")
    quick = ["data.root=imagenet", "pretrain.backbone=resnet10t", "pretrain.batch=4", "compare.batch=4",
             "pretrain.crop_size=32", "pretrain.method.projector=[16, 16]", "hardware.devices=2"]  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    check.check(Run(tmp_path / "runs" / "r", load_recipe("imagenet-inpainting", quick)))
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    for text in (
        "unusable files: none (all 30 files were read)",
        "n02094433",
        "16 x 16 tokens of 16384 codes",
        "Halton-MaskGIT, base, 256 px",
        "LlamaGen's tokenizer, 256 px, 72 M parameters",
        "weights/ImageNet_256_base.pth",
        "1.71 GB",
        "2 of 2 weights are missing or damaged",
        "published: 98.9 ms a view (in-painting with a MaskGIT of 227 M, 12 steps, one RTX 3090, batch 1)",
        "taken as it is",
        "that of one device; 2 will share the training and the views",
        "at least",
        "the generative views are kept as raw pixels and come to 4.13 MB",
    ):
        assert text in out
    assert "NO COMMERCIAL USE" not in out


def test_licences_that_forbid_commercial_use_are_told_and_weights_that_are_there_are_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check.show_weights(load_recipe("imagenet-noise")) == ({"generator.weights": 4 * 116 * 10**6}, False)
    assert capsys.readouterr().out.count("may not be used commercially") == 2
    assert check.show_weights(load_recipe("quickstart")) == ({}, True)
    assert capsys.readouterr().out == ""


def test_the_generator_is_measured_without_the_network_of_fid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check.show_weights(load_recipe("quickstart", ["cost_benefit.fid_weights=w.pth"])) == ({}, True)
    assert "1 of 1 weights is missing" in capsys.readouterr().out


def test_a_map_is_drawn_where_tiles_have_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "show_weights", lambda recipe: 1 / 0)  # what follows the map
    root = class_folders(tmp_path / "root", 40)
    run = Run(tmp_path / "runs" / "r", recipe_for(DataSettings(root=str(root), size=16)))
    with pytest.raises(UserError, match="no tile has a known place"):
        check.check(run, tmp_path / "map.png")
    with pytest.raises(UserError, match="is a folder, or its folder is missing"):
        check.check(run, tmp_path)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(f"10.{number:03d},50.5.png"))
    with pytest.raises(ZeroDivisionError):
        check.check(run, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 500
