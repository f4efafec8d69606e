"""From finished cells to a table and a plot: known scores in, known rows out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcl_custom.errors import Busy
from gcl_custom.files import locked, write_json
from gcl_custom.imagery.tile_store import INDEX, SPLITS
from gcl_custom.measures.statistics import Right, compare
from gcl_custom.reporting import study_results
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.study import Grid, load_study

LABELS = [0, 1, 0, 1]
STUDY = """
recipe: mine.yaml
settings: {compare.seeds: [0, 1], compare.arms: [gcl], compare.fractions: []}
grid:
  views.mask_probability: [0.25, 0.5]
  pretrain.mixing_rate: [0.0, 0.5]
baseline: {pretrain.mixing_rate: 0.0}
"""
PREDICTED = {  # mask probability, mixing rate -> for both seeds the predictions for the test tiles
    (0.25, 0.0): [[0, 0, 0, 0], [0, 1, 1, 1]],
    (0.25, 0.5): [[0, 1, 0, 0], [0, 1, 0, 1]],
    (0.5, 0.5): [[1, 0, 1, 0], [0, 0, 1, 0]],
}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    (tmp_path / "mine.yaml").write_text("data: {root: tiles}\n")
    (tmp_path / "grid.yaml").write_text(STUDY)
    return load_study(tmp_path / "grid.yaml", tmp_path / "runs")


def finish(run: Run) -> None:
    """All stages of a cell, as the real ones leave them where the results look."""
    for stage in plan.stages(run):
        if stage.done:
            continue
        stage.begin()
        facts: dict[str, float] = {}
        if stage.name == "tiles":
            about = {"files": [f"{n}.png" for n in range(4)], "labels": LABELS, "split": [SPLITS.index("test")] * 4}
            form = {"dtype": "uint8", "bands": 3, "size": 32, "rgb": True, "classes": ["a", "b"]}
            write_json(
                stage.path / INDEX,
                about | form | {"low": [0], "high": [255], "multi_label": False, "slots": [0, 1, 2, 3]},
            )
        if stage.name.startswith("pretrain"):
            facts = {"effective_rank": 10.0 + int(stage.name[-1])}
        if stage.name == "compare":
            p, rate = run.recipe.views.mask_probability, run.recipe.pretrain.mixing_rate
            predicted = PREDICTED[p if rate else 0.25, rate]
            for seed, row in enumerate(predicted):
                probe = plan.probe(run, "gcl", seed)
                if not probe.done:
                    probe.begin()
                    write_json(probe.path / "probes.json", {"linear": row, "valid": p + seed / 10})
                    probe.finish()
            right = (np.array(predicted) == LABELS).mean(1)
            score = {"mean": right.mean(), "low": right.min(), "high": right.max()}
            floor = {"linear": {"mean": 0.5, "low": 0.25, "high": 0.75}}
            write_json(stage.path / "scores.json", {"scores": {"gcl": {"linear": score}, "untrained": floor}})
        stage.finish(**facts)


def test_the_table_has_a_row_for_each_cell_and_the_floor(grid: Grid) -> None:
    for cell in grid.cells[:2]:
        finish(cell.run)
    columns, rows = study_results.table(grid, study_results.collect(grid))
    assert columns == [
        "mask probability", "mixing rate", "chosen by: validation", "linear probe", "effective rank", "seconds",
        "linear probe against the baseline",
    ]  # fmt: skip
    assert rows == [
        ["0.25", "0", "30.0", "62.5 (50.0-75.0)", "10.5", "0", "baseline"],
        ["0.25", "0.5", "30.0", "87.5 (75.0-100.0)", "10.5", "0", "+25.0, not shown"],
        ["0.5", "0", "30.0", "62.5 (50.0-75.0)", "10.5", "0", "baseline"],
        ["0.5", "0.5", "not run yet", "", "", "", ""],
        ["untrained", "", "", "50.0 (25.0-75.0)", "", "", ""],
    ], "rate 0 is one cell for both mask probabilities"


def test_a_cell_is_compared_with_its_baseline_tile_by_tile(grid: Grid) -> None:
    for cell in grid.cells:
        finish(cell.run)
    found = study_results.collect(grid)["cells"][3]
    ours, theirs = (np.array(PREDICTED[place]) == LABELS for place in ((0.5, 0.5), (0.25, 0.0)))
    names = "mask_probability=0.5,mixing_rate=0.5", "mask_probability=0.5,mixing_rate=0"
    assert found["gain"] == compare("Linear probe", *names, Right(ours), Right(theirs)).as_dict()
    assert found["gain"]["difference"] == pytest.approx((0.0 + 0.25) / 2 - (0.5 + 0.75) / 2)


def test_the_plot_has_a_line_for_each_value_of_the_first_axis(grid: Grid) -> None:
    for cell in grid.cells:
        finish(cell.run)
    (axes,) = study_results.draw(grid, study_results.collect(grid)).axes
    lines = {container.get_label(): container.lines[0].get_ydata().tolist() for container in axes.containers}
    assert lines == {"mask_probability 0.25": [62.5, 87.5], "mask_probability 0.5": [62.5, 12.5]}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.5"]


def test_results_are_written_and_the_best_is_chosen_on_validation(
    grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in grid.cells:
        finish(cell.run)
    study_results.show_study(grid)
    said = "".join(capsys.readouterr().out.split())  # however wide the terminal
    best = "mask_probability=0.5,mixing_rate=0.5"
    assert f"bestonvalidationtiles:{best}(55.0%)" in said, "the worst on test tiles, which must not choose"
    assert f"gcl-customexport--totimm--outFILE--run{grid.path.name}/cells/{best}--runs{grid.path.parent}" in said
    assert (grid.path / "table.md").read_text().count("\n") == 2 + 5
    assert (grid.path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert (grid.path / "plot.svg").stat().st_size > 1000
    assert not list(grid.path.glob(".*.part"))


def test_a_study_without_a_finished_cell_says_so(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    study_results.show_study(grid)
    assert "0 of 4 cells done" in capsys.readouterr().out
    assert not (grid.path / "plot.png").exists()


def test_no_other_process_makes_the_table_while_one_looks_and_writes(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that has looked before the last cell was done could write over the whole table."""
    tried = []

    def try_it(step: Callable[..., Any]) -> Callable[..., Any]:
        def tries(*given: Any) -> Any:
            with pytest.raises(Busy), locked(grid.path / "cells"):
                pass
            tried.append(step.__name__)
            return step(*given)

        return tries

    for name in ("collect", "publish"):
        monkeypatch.setattr(study_results, name, try_it(getattr(study_results, name)))
    study_results.show_study(grid)
    assert tried == ["collect", "publish"]
