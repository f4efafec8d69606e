"""A stage: its fingerprint, what makes it stale, and its clock."""

import json
import shutil
from pathlib import Path

import pytest

from gcl_custom.errors import DoneMeanwhile, StaleStage, UserError
from gcl_custom.files import discard, write_json
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import FORMAT, Pool

RECIPE = Recipe(name="first", data=DataSettings(root="tiles"))


def finished(run: Run, name: str, settings: dict, inputs: list | None = None, **facts: object) -> None:
    stage = run.stage(name, settings, inputs or [])
    stage.begin()
    stage.finish(**facts)


def test_a_finished_stage_is_done_until_its_settings_change(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    assert not run.stage("tiles", {"size": 64}).done
    finished(run, "tiles", {"size": 64}, psnr=24.5)
    assert run.stage("tiles", {"size": 64}).done
    assert run.stage("tiles", {"size": 64}).facts == {"psnr": 24.5}
    assert not run.stage("tiles", {"size": 32}).done


def test_stale_output_is_refused_with_what_changed_and_redone_when_asked(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    finished(run, "tiles", {"data": {"size": 64}})
    (run.path / "tiles" / "tiles.npy").write_bytes(b"old")
    with pytest.raises(StaleStage, match=r"data\.size: 64 -> 32.*--redo"):
        run.stage("tiles", {"data": {"size": 32}}).begin()
    assert (run.path / "tiles" / "tiles.npy").exists()
    Run(run.path, RECIPE, redo=True).stage("tiles", {"data": {"size": 32}}).begin()
    assert not (run.path / "tiles" / "tiles.npy").exists()


def rewritten(run: Run, **changes: object) -> None:
    """The record of finished tiles, as another version would have left it."""
    record = json.loads((run.path / "tiles" / "stage.json").read_text())
    kept = {key: value for key, value in (record | changes).items() if value is not None}
    write_json(run.path / "tiles" / "stage.json", kept | {"fingerprint": "another"})


@pytest.mark.parametrize(
    ("record", "how"),
    [
        ({"format": 1}, "by another version"),
        ({"format": None}, "by another version"),
        ({"settings": {"seed": 0}}, r"with other settings, or by another version \(data.size: None -> 64\)"),
    ],
)
def test_output_of_another_version_is_refused_as_such_and_redone_when_asked(
    tmp_path: Path, record: dict[str, object], how: str
) -> None:
    run, settings = Run(tmp_path / "r", RECIPE), {"data": {"size": 64}, "seed": 0}
    finished(run, "tiles", settings)
    rewritten(run, **record)
    assert not run.stage("tiles", settings).done
    with pytest.raises(StaleStage, match=f"tiles was made {how}.*--redo"):
        run.stage("tiles", settings).begin()
    finished(Run(run.path, RECIPE, redo=True), "tiles", settings)
    assert json.loads((run.path / "tiles" / "stage.json").read_text())["format"] == FORMAT
    assert run.stage("tiles", settings).done


def test_an_input_that_changed_makes_what_follows_stale(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    finished(run, "tiles", {}, content="one")
    finished(run, "tokenizer", {}, [run.stage("tiles", {})])
    assert run.stage("tokenizer", {}, [run.stage("tiles", {})]).done
    finished(run, "tiles", {}, content="two")
    follower = run.stage("tokenizer", {}, [run.stage("tiles", {})])
    assert not follower.done
    with pytest.raises(StaleStage, match="the output of tiles has changed"):
        follower.begin()


def test_a_missing_input_names_the_command(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    tiles = run.stage("tiles", {}, remedy="gcl-custom fit-generator")
    with pytest.raises(UserError, match=r"tokenizer needs tiles.*Run: gcl-custom fit-generator --run r"):
        run.stage("tokenizer", {}, [tiles]).begin()


def test_the_clock_adds_up_over_sessions(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    stage = run.stage("tiles", {})
    stage.begin()
    record = json.loads((stage.path / "working.json").read_text())
    write_json(stage.path / "working.json", record | {"seconds": 100.0})
    again = run.stage("tiles", {})
    again.begin()
    again.tick()
    again.finish()
    assert 100 < again.seconds < 110
    assert not (stage.path / "working.json").exists()


def test_what_is_stale_is_replaced_by_the_command_that_is_named(tmp_path: Path) -> None:
    """Without --redo that command would be refused."""
    run = Run(tmp_path / "run", Recipe(name="run", data=DataSettings(root="tiles")))
    first = run.stage("first", {"a": 1}, remedy="gcl-custom fit-generator")
    middle = run.stage("middle", {}, [first], "gcl-custom fit-generator")
    with pytest.raises(UserError, match=rf"not finished in .*gcl-custom fit-generator {run.options}$"):
        run.stage("last", {}, [middle]).require_inputs()
    for stage in (first, middle):
        stage.begin()
        stage.finish()
    changed = run.stage("first", {"a": 2}, remedy="gcl-custom fit-generator")
    after = run.stage("middle", {}, [changed], "gcl-custom fit-generator")
    assert (first.stale, changed.stale, after.stale) == (False, True, True)
    with pytest.raises(UserError, match=r"middle, which was made from other settings .* --redo$"):
        run.stage("last", {}, [after]).require_inputs()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fingerprint": 1, "settings": {}, "facts": {}}'])
@pytest.mark.parametrize("name", ["stage.json", "working.json"])
def test_a_damaged_record_is_named_with_what_to_remove(tmp_path: Path, name: str, content: str) -> None:
    stage = Run(tmp_path / "r", RECIPE).stage("tiles", {})
    stage.begin()
    (stage.path / "working.json").unlink()
    (stage.path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} is damaged.*Remove the folder {stage.path}"):
        stage.begin()


def test_a_stage_that_a_run_lent_and_no_longer_has_is_made_anew(tmp_path: Path) -> None:
    """The run that lent it is gone, or works on it again: nothing is written there, and nothing stops the cell."""
    lender = Run(tmp_path / "first", RECIPE)
    finished(lender, "tiles", {"size": 8})
    pool = Pool(tmp_path / "study" / "stages", lender=lender.path)
    cell = Run(tmp_path / "study" / "cells" / "a", RECIPE, pool=pool)
    with pytest.raises(DoneMeanwhile):
        cell.stage("tiles", {"size": 8}).begin()
    again = Run(lender.path, RECIPE, redo=True).stage("tiles", {"size": 8})
    again.begin()
    again.reopen()
    of_cell = cell.stage("tiles", {"size": 8})
    of_cell.begin()
    assert not of_cell.path.is_symlink()
    of_cell.finish()
    assert not again.done
    again.finish()
    for path in (of_cell.path, lender.path):
        shutil.rmtree(path)
    of_cell.path.symlink_to(lender.path / "tiles")
    of_cell = cell.stage("tiles", {"size": 8})
    of_cell.begin()
    of_cell.finish()
    assert of_cell.done


def test_what_a_kill_left_of_a_lent_stage_stops_no_later_one(tmp_path: Path) -> None:
    (tmp_path / "lent").mkdir()
    (tmp_path / ".tiles.trash").symlink_to(tmp_path / "lent")
    (tmp_path / "tiles").mkdir()
    discard(tmp_path / "tiles")
    assert [path.name for path in tmp_path.iterdir()] == ["lent"]
