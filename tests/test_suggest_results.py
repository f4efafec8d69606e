"""From measured probes to a suggestion: known measures and scores in, known rows, choice and agreement out."""

import json
import math
from pathlib import Path

import pytest

from gcl_custom import plan, suggest_results
from gcl_custom.study import Cell, Grid
from gcl_custom.suggest import MASK, RATE, Labels, load_grid

MEASURED = {  # mask probability, mixing rate -> RankMe, LiDAR of two seeds, alpha
    (0.25, 0.0): (10.0, [20.0, 22.0], 2.0),
    (0.25, 0.5): (14.0, [40.0, 10.0], 0.7),
    (0.25, 1.0): (12.0, [30.0, 32.0], 1.4),
    (0.5, 0.5): (16.0, [11.0, 11.0], math.inf),
    (0.5, 1.0): (15.0, [24.0, 24.0], 1.1),
}
HOW = {"tiles": 7, "split": "valid", "views": 10, "delta": 1e-4, "fitted_ranks": [3, 100]}
LIKENESS = {0.25: 0.9, 0.5: 0.8}
SCORES = {(0.25, 0.0): 0.60, (0.25, 0.5): 0.65, (0.25, 1.0): 0.70, (0.5, 0.5): 0.50, (0.5, 1.0): 0.74}


def place(cell: Cell) -> tuple[float, float]:
    return cell.place[MASK], cell.place[RATE]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    (tmp_path / "mine.yaml").write_text("data: {root: tiles}\n")
    grid = load_grid(str(tmp_path / "mine.yaml"), tmp_path / "runs", [0.25, 0.5], [0.0, 0.5, 1.0], 3, [0, 1])
    for cell in grid.cells:
        rankme, lidar, alpha = MEASURED[place(cell)]
        own = [plan.measures(cell.run, seed) for seed in (0, 1)]
        views = [plan.likeness(cell.run)] if plan.mixes_views(cell.run.recipe.pretrain) else []
        for stage in [*plan.stages(cell.run)[:-1], *views, *own]:
            if not stage.done:
                stage.begin()
                facts: dict[str, object] = {"likeness": LIKENESS[cell.place[MASK]]}
                if stage in own:
                    facts = {"rankme": rankme, "lidar": lidar[own.index(stage)], "alpha": alpha}
                    facts |= HOW
                stage.finish(**facts)
    return grid


LABELS = Labels("known scores", lambda cell: SCORES[place(cell)])


def test_the_setting_with_the_highest_mean_lidar_is_suggested(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    suggest_results.run(grid, None)
    said = capsys.readouterr().out
    assert "--set views.mask_probability=0.25 --set pretrain.mixing_rate=1" in said
    assert "estimate from probes of 3 epochs with 2 seeds, without labels" in said
    assert "has not been measured here" in said
    kept = json.loads((grid.path / "results.json").read_text())
    assert kept["measured"] == HOW
    assert kept["agreement"] is None
    assert (grid.path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_for_each_probe_with_the_spread_over_seeds(grid: Grid) -> None:
    columns, rows = suggest_results.table(suggest_results.collect(grid, None))
    assert columns == ["mask probability", "mixing rate", "RankMe", "LiDAR", "alpha", "likeness", "seconds", ""]
    assert [row[:6] + row[7:] for row in rows] == [
        ["any", "0", "10.0 (10.0-10.0)", "21.0 (20.0-22.0)", "2.00 (2.00-2.00)", "", ""],
        ["0.25", "0.5", "14.0 (14.0-14.0)", "25.0 (10.0-40.0)", "0.70 (0.70-0.70)", "0.900", ""],
        ["0.25", "1", "12.0 (12.0-12.0)", "31.0 (30.0-32.0)", "1.40 (1.40-1.40)", "0.900", "suggested"],
        ["0.5", "0.5", "16.0 (16.0-16.0)", "11.0 (11.0-11.0)", "inf (inf-inf)", "0.800", ""],
        ["0.5", "1", "15.0 (15.0-15.0)", "24.0 (24.0-24.0)", "1.10 (1.10-1.10)", "0.800", ""],
    ]


def test_agreement_is_spearmans_and_losses_are_in_points(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    suggest_results.run(grid, LABELS)
    found = suggest_results.collect(grid, LABELS)["agreement"]
    # Ranks by score, in the order of the table: 2 3 4 1 5. Without ties rho is 1 - 6 (sum of squares) / 120.
    expected = {"rankme": [1, 3, 2, 5, 4], "lidar": [2, 4, 5, 1, 3], "alpha": [2, 4, 3, 1, 5]}
    for name, ranks in expected.items():
        squares = sum((a - b) ** 2 for a, b in zip(ranks, [2, 3, 4, 1, 5], strict=True))
        assert found["measures"][name]["rho"] == pytest.approx(1 - 6 * squares / 120), name
    assert found["measures"]["likeness"]["count"] == 4
    assert found["measures"]["likeness"]["pick"] is None
    losses = {name: measure["loss"] for name, measure in found["measures"].items()}
    assert losses == {"rankme": pytest.approx(24), "lidar": pytest.approx(4), "alpha": 0, "likeness": None}
    assert found["loss"] == pytest.approx(4)
    assert found["loss_at_random"] == pytest.approx((14 + 9 + 4 + 24 + 0) / 5)
    said = capsys.readouterr().out
    assert "scores 4.0 points below the best of 5; one picked at random 10.2 on average" in said


def test_a_suggestion_without_a_score_and_a_key_that_nothing_depends_on(grid: Grid) -> None:
    some = Labels("few", lambda cell: None if place(cell) == (0.25, 1.0) else SCORES[place(cell)])
    results = suggest_results.collect(grid, some)
    assert results["agreement"]["cells"] == 4
    assert "unknown" in suggest_results.closing(results)[-1]
    only = Grid(grid.study, grid.path, grid.cells[:1])
    assert suggest_results.collect(only, None)["set"] == ["pretrain.mixing_rate=0"]


def test_every_mask_probability_has_its_line_from_rate_zero(grid: Grid) -> None:
    canvas = suggest_results.draw(grid, suggest_results.collect(grid, LABELS))
    assert [axes.get_title() for axes in canvas.axes] == [
        "RankMe", "LiDAR", "alpha (1 is good)", "linear probe on validation tiles, %",
    ]  # fmt: skip
    lines = {line.get_label(): line.get_ydata().tolist() for line in canvas.axes[1].lines}  # type: ignore[union-attr]
    assert lines["mask probability 0.25"] == [21, 25, 31]
    assert lines["mask probability 0.5"] == [21, 11, 24]
    rings = [line.get_xydata().tolist() for line in canvas.axes[1].lines if line.get_markersize() == 14]  # type: ignore[union-attr]
    assert rings == [[[1.0, 31.0]], []]
