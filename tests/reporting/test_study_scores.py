"""The scores of a cell over its runs: as if they were one run with several seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_cells import LABELS, PREDICTED, REPLICATED, STUDY, finish, study
from written_index import read_lists, write_lists

from gcl_custom.errors import UserError
from gcl_custom.evaluation.verdict import score
from gcl_custom.measures.statistics import Right
from gcl_custom.reporting.study_scores import gains, scores_of
from gcl_custom.runs import plan
from gcl_custom.runs.study import Cell


def finished(folder: Path, text: str) -> list[Cell]:
    """The cells of a study at mask probability .25, the baseline first."""
    folder.mkdir()
    cells = list(study(folder, text).cells[:2])
    for cell in cells:
        for run in cell.runs:
            finish(run)
    return cells


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    return finished(tmp_path / "replicated", REPLICATED)


def test_runs_are_scored_as_one_run_with_their_seeds(cells: list[Cell]) -> None:
    right = np.array(PREDICTED[0.25, 0.5]) == LABELS
    assert scores_of(cells[1]) == {"gcl": {"linear": score(Right(right), [0, 1]), "knn": score(Right(~right), [0, 1])}}
    assert list(scores_of(cells[1])["gcl"]["linear"]["seeds"]) == ["0", "1"], "in the order of the runs"


def test_runs_are_compared_as_one_run_with_their_seeds(cells: list[Cell], tmp_path: Path) -> None:
    """The predictions are the same, so it cannot matter whether the seeds had one generator or two."""
    baseline, cell = finished(tmp_path / "shared", STUDY)
    assert len(cell.runs) == 1 < len(cells[1].runs)
    assert gains(cells[1], cells[0]) == gains(cell, baseline)
    assert gains(cells[1], cells[0])["linear"].by_seed == [0.25, 0.25]


def test_cells_of_different_seeds_are_not_compared(cells: list[Cell]) -> None:
    assert gains(replace(cells[1], runs=cells[1].runs[:1]), cells[0]) == {}


def test_cells_of_other_test_tiles_are_refused(cells: list[Cell], tmp_path: Path) -> None:
    _, other = finished(tmp_path / "other", REPLICATED)
    assert gains(other, cells[0]), "the same files in another place"
    tiles = plan.tiles(other.run).path
    about = read_lists(tiles)
    write_lists(tiles, about | {"labels": about["labels"][::-1]})
    with pytest.raises(UserError, match=r"different test tiles, in .* Take what changes the tiles out of"):
        gains(other, cells[0])
    with pytest.raises(UserError, match="different test tiles"):
        scores_of(replace(other, runs=[cells[1].runs[0], other.runs[1]]))
