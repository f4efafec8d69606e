"""Probes: what the grid holds, what is refused, and which labelled score belongs to which probe."""

from pathlib import Path

import pytest

from gcl_custom import plan, suggest
from gcl_custom.errors import RecipeError, UserError
from gcl_custom.files import write_json
from gcl_custom.runs import Run
from gcl_custom.study import Grid
from gcl_custom.suggest import MASK, RATE, labels, load_grid, measured, measured_and_scored


def probes(folder: Path, *overrides: str, masks: tuple[float, ...] = (0.25, 0.5)) -> Grid:
    (folder / "mine.yaml").write_text("data: {root: tiles}\n")
    return load_grid(str(folder / "mine.yaml"), folder / "runs", masks, [0.0, 0.5], 3, [4, 5], overrides)


def test_rate_zero_is_one_probe_and_every_probe_is_short_and_without_labels(tmp_path: Path) -> None:
    grid = probes(tmp_path)
    assert grid.path == tmp_path / "runs" / "mine-suggest"
    assert [(cell.place[MASK], cell.place[RATE]) for cell in grid.cells] == [(0.25, 0.0), (0.25, 0.5), (0.5, 0.5)]
    for recipe in (cell.run.recipe for cell in grid.cells):
        assert (recipe.pretrain.epochs, recipe.pretrain.probe_every) == (3, 0)
        assert (recipe.compare.seeds, recipe.compare.arms, recipe.compare.fractions) == ([4, 5], ["gcl"], [])


def test_where_no_view_is_in_painted_the_mask_probability_makes_no_probe(tmp_path: Path) -> None:
    assert len(probes(tmp_path, "pretrain.source=raw").cells) == 2


@pytest.mark.parametrize("key", ["pretrain.epochs", "compare.seeds", MASK, RATE])
def test_what_the_options_decide_is_no_override(tmp_path: Path, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"--set {key}=1"):
        probes(tmp_path, f"{key}=1")


def test_a_share_out_of_bounds_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"suggest, cell mask_probability=1\.5(?s:.*)less than or equal to 1"):
        probes(tmp_path, masks=(1.5,))
    assert not (tmp_path / "runs").exists()


def finish(run: Run) -> None:
    for stage in [*plan.stages(run)[:-1], *(plan.measures(run, seed) for seed in (4, 5)), plan.likeness(run)]:
        if not stage.done:
            stage.begin()
            stage.finish()


def test_a_probe_is_done_with_its_measures_and_scored_with_its_linear_probes(tmp_path: Path) -> None:
    cell = probes(tmp_path).cells[1]
    assert not measured(cell.run)
    finish(cell.run)
    assert measured(cell.run)
    for seed in (4, 5):
        assert not measured_and_scored(cell.run)
        stage = plan.probe(cell.run, "gcl", seed)
        stage.begin()
        write_json(stage.path / "probes.json", {"valid": seed / 10})
        stage.finish()
    assert measured_and_scored(cell.run)
    found = labels(tmp_path, with_labels=True, study=None)
    assert found is not None
    assert found.score(cell) == pytest.approx(0.45)


def study(folder: Path, axes: list[str], scores: dict[tuple[str, str], float | None]) -> None:
    cells = [
        {"place": {MASK: mask, RATE: rate}, "scores": None if score is None else {"gcl": {}}, "valid": {"mean": score}}
        for (mask, rate), score in scores.items()
    ]
    (folder / "runs" / "long").mkdir(parents=True)
    write_json(folder / "runs" / "long" / "results.json", {"axes": {axis: [] for axis in axes}, "cells": cells})


def test_scores_of_a_study_are_matched_by_both_keys_but_for_rate_zero(tmp_path: Path) -> None:
    study(tmp_path, [RATE, MASK], {("0.75", "0"): 0.6, ("0.25", "0.5"): 0.7, ("0.5", "0.5"): None, ("0.5", "1"): 0.9})
    found = labels(tmp_path / "runs", with_labels=False, study="long")
    assert found is not None
    assert "the study long" in found.source
    assert [found.score(cell) for cell in probes(tmp_path).cells] == [0.6, 0.7, None]


def test_no_labels_unless_asked_for(tmp_path: Path) -> None:
    assert labels(tmp_path, with_labels=False, study=None) is None


def test_a_study_that_cannot_be_matched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Run that study first"):
        labels(tmp_path / "runs", with_labels=False, study="long")
    study(tmp_path, [MASK, RATE, "method"], {})
    with pytest.raises(UserError, match=r"axes of .*long are method, pretrain\.mixing_rate, views\.mask_prob"):
        labels(tmp_path / "runs", with_labels=False, study="long")
    with pytest.raises(UserError, match="give one of them"):
        labels(tmp_path / "runs", with_labels=True, study="long")


def test_defaults_are_a_valid_grid(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("data: {root: tiles}\n")
    cells = load_grid(str(tmp_path / "mine.yaml"), tmp_path / "runs").cells
    assert len(cells) == 1 + len(suggest.MASKS) * (len(suggest.RATES) - 1)
