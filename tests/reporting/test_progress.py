from collections.abc import Callable
from pathlib import Path
from typing import Any

from written_index import read_lists, write_lists

from gcl_custom.files import write_json
from gcl_custom.reporting import progress, report
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_pretrainings_of_one_state_are_counted(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    done = [plan.pretrain(run, "gcl", seed) for seed in run.recipe.compare.seeds]
    others = [run.stage(f"pretrain/other-{seed}", {}) for seed in range(3)]
    assert progress.lacking([*done, *others]) == [f"3 of {len(done) + 3} pretrainings are missing"]
    others[0].begin()
    assert progress.lacking([*done, *others])[0] == "pretrain/other-0 is unfinished"


def test_an_evaluation_waits_for_nothing(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    alone = Run(tmp_path / "runs" / "alone", run.recipe)
    tiles = plan.tiles(alone)
    tiles.begin()
    tiles.finish()
    assert progress.awaited(alone).aim == "comparison"
    (alone.path / "evaluate").mkdir()
    write_json(alone.path / "evaluate" / "scores.json", {})
    found = progress.awaited(alone)
    assert found.aim == "evaluation"
    assert progress.lacking(found.stages) == []
    assert "Given backbones were scored" in progress.card(alone, found)


def test_a_run_without_labels_ends_with_its_pretraining(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    tiles = plan.tiles(run).path
    about = read_lists(tiles)
    write_lists(tiles, about | {"labels": [-1] * len(about["labels"]), "classes": []})
    found = progress.awaited(run)
    assert found.aim == "pretraining"
    assert [stage.name for stage in found.stages if stage.name.startswith("pretrain/")] == [
        f"pretrain/gcl-{run.recipe.compare.seeds[0]}"
    ]
    page = report.page(run)
    assert "A backbone was pretrained without labels." in page
    assert "compare is missing" not in page
    assert "compare-supervised" not in page


def test_the_command_that_is_named_makes_what_is_missing_too(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    found = progress.awaited(run)
    assert f"gcl-custom compare-supervised {run.options}" in progress.card(run, found)
    record = plan.compare(run).path / "stage.json"
    record.parent.mkdir()
    write_json(record, {"fingerprint": "of other settings", "settings": {}, "facts": {}})
    assert f"gcl-custom compare-supervised {run.options} --redo" in progress.card(run, progress.awaited(run))
    record.unlink()
    (plan.maskgit(run).path / "stage.json").unlink()
    assert f"gcl-custom run {run.options}" in progress.card(run, progress.awaited(run))
