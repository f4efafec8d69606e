from collections.abc import Callable
from pathlib import Path

import pytest
from scored_runs import draw, run_in

from gcl_custom.evaluation import compare_supervised
from gcl_custom.evaluation.figures import Figure
from gcl_custom.evaluation.so_far import figures_trained, so_far
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_an_unfinished_comparison_shows_what_is_done_and_a_rate_only_once_it_is_chosen(
    tmp_path: Path, without_training: Callable[..., Run]
) -> None:
    draw(tmp_path / "imagery")
    run = run_in(tmp_path)
    assert so_far(run) is None, "nothing is packed"
    run = without_training(run)
    assert so_far(run) is None, "nothing is scored"
    store, figure = TileStore(plan.tiles(run).path), Figure("supervised", "supervised@0.25")
    compare_supervised.probe(run, store, "gcl", 3)
    compare_supervised.probe(run, store, "untrained", 4)
    compare_supervised.train(run, store, figure, 3, 1e-3)
    found = so_far(run)
    assert found is not None
    assert set(found["scores"]) == {"gcl", "untrained"}
    assert set(found["scores"]["gcl"]["linear"]["seeds"]) == {"3"}
    linear = plan.probe(run, "gcl", 3).facts["linear"]
    assert found["scores"]["gcl"]["linear"]["mean"] == pytest.approx(linear)
    compare_supervised.train(run, store, figure, 3, 1e-2)
    found = so_far(run)
    assert found is not None
    assert set(found["scores"]["supervised"]["supervised@0.25"]["seeds"]) == {"3"}
    assert found["labels"]["0.25"] > 0


def test_the_figures_are_those_that_the_comparison_trains() -> None:
    compare = run_in(Path("nowhere")).recipe.compare
    assert figures_trained(compare) == [
        *(Figure(arm, f"finetune@{share}") for arm in ("gcl", "handcrafted") for share in ("0.25", "all")),
        *(Figure("supervised", f"supervised@{share}") for share in ("0.25", "all")),
    ]


def test_what_a_training_keeps_is_its_best_score_and_its_curve(
    tmp_path: Path, without_training: Callable[..., Run]
) -> None:
    draw(tmp_path / "imagery", 12)
    run = without_training(run_in(tmp_path, finetune_steps=12, learning_rates=[1e-2]))
    store = TileStore(plan.tiles(run).path)
    kept = compare_supervised.train(run, store, Figure("supervised", "supervised@0.25"), 3, 1e-2)
    scores = [score for _, score in kept["curve"]]
    assert kept["valid"] == max(scores)
    assert kept["curve"][-1][0] == kept["steps"] <= kept["most_steps"]
    stage = run.path / "supervised" / "supervised-3-0.25-0.01"
    assert read_json(stage / "stage.json")["facts"]["most_steps"] == kept["most_steps"]
