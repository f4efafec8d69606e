"""Masks through the comparison and the evaluation, as they are typed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from masked_tiles import draw, miou, run_in, store_in

from gcl_custom import console
from gcl_custom.evaluation import compare_supervised, evaluate, scoring
from gcl_custom.evaluation.classifier import Classifier
from gcl_custom.evaluation.inference import labelled, predict
from gcl_custom.evaluation.so_far import so_far
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings
from gcl_custom.reporting import report
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch

HARDWARE = HardwareSettings(accelerator="cpu", precision="fp32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, without_training: Callable[..., Run]) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("masks")
    draw(folder / "imagery")
    run = without_training(run_in(folder))
    compare_supervised.compare_supervised(run)
    return run


@pytest.fixture(scope="module")
def scores(finished: Run) -> dict[str, Any]:
    found: dict[str, Any] = read_json(plan.compare(finished).path / "scores.json")
    return found


def test_every_arm_and_floor_has_its_scores(scores: dict[str, Any]) -> None:
    probes = {"linear", "linear_last", "probe@0.25"}
    tuned = {"finetune@0.25", "finetune@all"}
    assert scores["measure"] == "mIoU"
    assert {arm: set(found) for arm, found in scores["scores"].items()} == {
        "gcl": probes | tuned,
        "handcrafted": probes | tuned,
        "supervised": {"supervised@0.25", "supervised@all"},
        "untrained": probes,
        "pixels": {"linear", "probe@0.25"},
        "surroundings": {"linear", "probe@0.25"},
    }
    assert scores["scores"]["pixels"]["linear"]["mean"] > 0.95
    assert scores["confusion"] == {}
    for name, found in scores["by_class"].items():  # with one seed they would be just the score
        arm, _, metric = name.partition(" ")
        assert sum(found) / 2 == pytest.approx(scores["scores"][arm][metric]["mean"], abs=0.05)
    assert "mIoU" in scores["verdict"]
    assert "the values" in scores["grounds"][1]
    for found in scores["scores"].values():
        for score in found.values():
            assert score["low"] <= score["mean"] <= score["high"]


def test_what_is_unfinished_is_scored_alike(finished: Run, scores: dict[str, Any]) -> None:
    partial = so_far(finished)
    assert partial is not None
    assert partial["scores"] == scores["scores"]


def test_the_page_shows_tiles_masks_and_what_was_said(finished: Run) -> None:
    page = report.page(finished)
    assert "Masks of test tiles" in page
    assert "the tiles, their masks, the masks of GCL, the masks of the values of a pixel" in page
    assert "Intersection over union by class" in page
    assert "Worst confusions" not in page
    masks = np.load(plan.probe(finished, "gcl", 3).path / scoring.MASKS_SHOWN)
    assert masks.shape == (3, 16, 16)


def test_given_backbones_are_scored_by_their_maps(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    console.console.width = 200
    evaluate.evaluate(finished, ["floor=untrained:resnet10t:small"], finetune=True)
    found = read_json(finished.path / "evaluate" / "scores.json")
    assert set(found["scores"]) == {"floor", "pixels", "surroundings"}
    assert set(found["scores"]["floor"]) == {"linear", "linear_last", "probe@0.25", "finetune@0.25", "finetune@all"}
    assert "intersection over union" in capsys.readouterr().out


# ---------------------------------------------------------------- training with masks


def segmenter(store: TileStore, crop_size: int | None = None, steps: int = 60) -> Classifier:
    torch.manual_seed(0)
    settings = PretrainSettings(crop_size=crop_size, handcrafted=HandcraftedSettings(crop=(0.5, 1.0)))
    network, width = backbones.build("test_resnet", 3)
    return Classifier(network, width, store, settings, HARDWARE, learning_rate=1e-2, steps=steps, seed=5)


def test_training_finds_masks_and_its_score_is_that_of_its_masks(tmp_path: Path) -> None:
    store = store_in(tmp_path, ignored=0.1)
    module, train = segmenter(store), labelled(store, "train")
    optimizer = module.make_optimizer()
    before = module.evaluate()["valid mIoU"]
    for step in range(60):
        module.train()
        tiles = train[torch.arange(8) + 8 * (step % 2)]
        optimizer.zero_grad()
        module.training_step(Batch(step, tiles, store.read(tiles))).backward()
        optimizer.step()
    after = module.evaluate()["valid mIoU"]
    assert after > max(0.8, before + 0.2)
    valid = labelled(store, "valid")
    with torch.no_grad():
        said = module.eval()(store.unit(store.read(valid))).argmax(1)
    assert after == pytest.approx(miou(said, store.targets(valid)))
    kept = predict(module, store, valid, HARDWARE)
    assert kept.shape == (len(valid), 2, 2)


def test_masks_have_the_size_of_the_tiles_whatever_the_size_of_the_views(tmp_path: Path) -> None:
    store = store_in(tmp_path, side=24)
    module = segmenter(store, crop_size=16)
    assert module(torch.rand(2, 3, 24, 24)).shape == (2, 2, 24, 24)
    tiles = labelled(store, "train")[:4]
    assert module.training_step(Batch(0, tiles, store.read(tiles))).isfinite()
