from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scored_runs import draw, run_in

from gcl_custom import console
from gcl_custom.errors import StaleStage, UserError
from gcl_custom.evaluation import compare_supervised, evaluate
from gcl_custom.evaluation.evaluate import comparisons
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.pretraining import backbones
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import save_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, without_training: Callable[..., Run]) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluate")
    draw(folder / "imagery", 12)
    run = without_training(run_in(folder, fractions=[0.25], learning_rates=[1e-3]))
    torch.manual_seed(7)
    save_weights(folder / "weights.safetensors", backbones.build("test_resnet", 3)[0])
    run.path.mkdir(exist_ok=True)
    with run.saved():
        pass
    return run


@pytest.fixture(scope="module")
def given(run: Run) -> list[str]:
    weights = run.path.parents[1] / "weights.safetensors"
    return ["ours=run:trial", f"file={weights}@test_resnet", "floor=untrained:test_resnet"]


@pytest.fixture(scope="module")
def scores(run: Run, given: list[str]) -> dict[str, Any]:
    evaluate.evaluate(run, given, finetune=True)
    found: dict[str, Any] = read_json(run.path / "evaluate" / "scores.json")
    return found


def test_every_backbone_has_its_scores_for_its_seeds(scores: dict[str, Any]) -> None:
    assert set(scores["scores"]) == {"ours", "file", "floor", "statistics", "patches"}
    for name, seeds in (("ours", {"3", "4"}), ("floor", {"3", "4"}), ("file", {"every"})):
        assert set(scores["scores"][name]["linear"]["seeds"]) == seeds
        assert set(scores["scores"][name]["finetune@0.25"]["seeds"]) == {"3", "4"}
    assert scores["scores"]["file"]["linear"]["interval"] == "tiles"
    for metric in ("shots@1", "shots@3", "probe@0.25"):
        assert all(metric in found for found in scores["scores"].values())
    assert scores["labels"] == {"0.25": 12}  # 8 tiles of each of six classes


def test_a_backbone_of_ours_scores_what_the_comparison_gives_it(run: Run, scores: dict[str, Any]) -> None:
    store = TileStore(plan.tiles(run).path)
    for name, arm in (("ours", "gcl"), ("floor", "untrained")):
        for seed in (3, 4):
            compared = compare_supervised.probe(run, store, arm, seed)
            assert read_json(run.path / "evaluate" / "probes" / f"{name}-{seed}" / "probes.json") == compared


def test_what_is_done_is_not_done_again_and_one_more_backbone_is_added(
    run: Run, given: list[str], scores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in run.path.rglob("stage.json")}
    monkeypatch.setattr(backbones, "build", lambda *given, **named: pytest.fail("nothing is left to build"))
    evaluate.evaluate(run, given, finetune=True)
    assert read_json(run.path / "evaluate" / "scores.json") == scores
    monkeypatch.undo()
    evaluate.evaluate(run, [*given, "vit=untrained:test_vit"], finetune=False)
    assert stamps.items() <= {path: path.stat().st_mtime_ns for path in run.path.rglob("stage.json")}.items()
    assert "vit" in read_json(run.path / "evaluate" / "scores.json")["scores"]


def test_a_name_that_stood_for_another_backbone_is_refused(run: Run, scores: dict[str, Any]) -> None:
    with pytest.raises(StaleStage, match="test_resnet -> test_vit"):
        evaluate.evaluate(run, ["floor=untrained:test_vit"], finetune=False)


def test_a_mistake_in_the_last_backbone_shows_before_work_on_the_first(run: Run, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="does not fit"):
        evaluate.evaluate(
            run, ["new=untrained:test_resnet", f"bad={tmp_path / 'other.safetensors'}@test_resnet"], False
        )
    assert not (run.path / "evaluate" / "probes" / "new-3").exists()


def test_shown_with_intervals_comparisons_and_what_the_networks_saw(scores: dict[str, Any]) -> None:
    with console.console.capture() as shown:
        evaluate.show(scores)
    text = shown.get()
    assert "floor: untrained:test_resnet; sees unit tiles" in text
    assert all(comparison["sentence"] in text for comparison in scores["comparisons"])
    measures = [c["measure"] for c in scores["comparisons"]]
    assert measures.count("Linear probe") == 3 + 3 * 2  # every two of three, and each beside the floors
    assert measures.count("kNN") == measures.count("Linear probe with 3 labels a class") == 3
    assert "words of patches" in " ".join(text.split()).lower()
    assert measures.count("Fine-tuned with 25 % of labels") == 3


def right(*shares: float) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are right for a share of the tiles, and the truth."""
    return (np.arange(1000) < np.array(shares)[:, None] * 1000).astype(int), np.ones(1000, dtype=int)


def test_pairs_are_of_the_same_seeds_and_fixed_weights_stand_beside_each() -> None:
    rows, truth = right(0.9, 0.92, 0.5)
    found = comparisons(
        SINGLE_LABEL,
        {
            "a": {"linear": {0: rows[0], 1: rows[1]}},
            "b": {"linear": {1: rows[2], 2: rows[0]}},
            "fixed": {"linear": {None: rows[2]}},
            "other": {"linear": {None: rows[0]}},
        },
        truth,
    )
    by_pair = {(c.ours, c.theirs): c for c in found}
    assert by_pair["a", "b"].seed_count == 1
    assert by_pair["a", "b"].difference == pytest.approx(0.42)
    assert by_pair["a", "fixed"].seed_count == 2
    assert by_pair["a", "fixed"].difference == pytest.approx(0.41)
    assert by_pair["a", "fixed"].seeds.low == pytest.approx(0.41 - 12.7062 * 0.01)  # t(0.975, 1), deviation 0.02 / √2
    assert by_pair["fixed", "other"].seed_count == 1
    assert by_pair["fixed", "other"].outcome == "not shown"


def test_without_a_common_seed_there_is_no_pair() -> None:
    rows, truth = right(0.9, 0.5)
    assert comparisons(SINGLE_LABEL, {"a": {"knn": {0: rows[0]}}, "b": {"knn": {1: rows[1]}}}, truth) == []
