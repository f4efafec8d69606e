"""From finished cells to a table and a plot: known scores in, known rows out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_cells import LABELS, PREDICTED, REPLICATED, STUDY, finish, study

from gcl_custom.errors import Busy
from gcl_custom.files import locked
from gcl_custom.measures.statistics import Right, compare
from gcl_custom.reporting import study_results
from gcl_custom.runs.study import Grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return study(tmp_path)


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
        ["0.25", "0.5", "30.0", "87.5 (75.0-100.0)", "10.5", "0", "+25.0 (over tiles -20.9 to +70.9), not shown"],
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
    assert found["gains"] == {
        "linear": compare("Linear probe", *names, Right(ours), Right(theirs)).as_dict(),
        "knn": compare("kNN", *names, Right(~ours), Right(~theirs)).as_dict(),
    }
    assert found["gains"]["linear"]["difference"] == pytest.approx((0.0 + 0.25) / 2 - (0.5 + 0.75) / 2)


def test_a_cell_with_seeds_of_its_own_is_scored_over_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = study(tmp_path, REPLICATED)
    for run in grid.runs[:7]:
        finish(run)
    columns, rows = study_results.table(grid, study_results.collect(grid))
    assert columns[-2:] == ["linear probe against the baseline", "kNN against the baseline"]
    assert [[*row[:3], row[3].partition(" ")[0]] for row in rows] == [
        ["0.25", "0", "30.0", "62.5"],
        ["0.25", "0.5", "30.0", "87.5"],
        ["0.5", "0", "30.0", "62.5"],
        ["0.5", "0.5", "1 of 2 seeds run", ""],
    ]
    assert [row[-2:] for row in rows] == [
        ["baseline", "baseline"],
        ["+25.0 (over tiles -20.9 to +70.9), not shown", "-25.0 (over tiles -70.9 to +20.9), not shown"],
        ["baseline", "baseline"],
        ["", ""],
    ]
    finish(grid.runs[7])
    study_results.show_study(grid)
    said = "".join(capsys.readouterr().out.split())
    best = "mask_probability=0.5,mixing_rate=0.5"
    assert f"bestonvalidationtiles:{best}(55.0%)" in said
    assert f"--run{grid.path.name}/cells/{best},seed=0--runs" in said
    assert "4of4cellsdone" in said
    assert (grid.path / "table.md").read_text().endswith("for the seeds 0, 1: generator, views and pretraining anew.\n")


def test_a_cell_whose_baseline_is_not_run_yet_is_compared_with_nothing(grid: Grid) -> None:
    finish(grid.cells[1].run)
    columns, rows = study_results.table(grid, study_results.collect(grid))
    assert [row[columns.index("linear probe against the baseline")] for row in rows[:2]] == ["", ""]


def test_an_interval_over_seeds_is_shown_from_five_seeds_on() -> None:
    over = {"mean": 0.1, "low": 0.05, "high": 0.15}
    gain = {"difference": 0.1, "outcome": "better", "seeds": over, "tiles": {**over, "low": 0.01}, "seed_count": 4}
    found = {"baseline": "raw", "gains": {"knn": gain}}
    assert study_results._against(found, "knn") == "+10.0 (over tiles +1.0 to +15.0), better"
    gain["seed_count"] = 5
    assert study_results._against(found, "knn") == "+10.0 (over seeds +5.0 to +15.0; over tiles +1.0 to +15.0), better"
    gain["block_count"] = 9
    assert "; over blocks +1.0 to +15.0)" in study_results._against(found, "knn")


def test_the_plot_has_a_line_for_each_value_of_the_first_axis(grid: Grid) -> None:
    for cell in grid.cells:
        finish(cell.run)
    (axes,) = study_results.draw(grid, study_results.collect(grid)).axes
    lines = {container.get_label(): container.lines[0].get_ydata().tolist() for container in axes.containers}
    assert lines == {"mask_probability 0.25": [62.5, 87.5], "mask_probability 0.5": [62.5, 12.5]}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.5"]


def test_an_axis_of_true_and_false_is_plotted_by_these_names(tmp_path: Path) -> None:
    before, baseline = "  views.mask_probability: [0.25, 0.5]\n", "baseline: {pretrain.mixing_rate: 0.0}\n"
    text = STUDY.replace(before, "").replace(baseline, "  data.upscale: [true, false]\n")
    grid = study(tmp_path, text)
    for cell in grid.cells:
        finish(cell.run)
    (axes,) = study_results.draw(grid, study_results.collect(grid)).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["True", "False"]


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
