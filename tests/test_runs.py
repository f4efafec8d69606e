import json
import multiprocessing
from pathlib import Path

import pytest

from gcl_custom.errors import Busy, StaleStage, UserError
from gcl_custom.recipe import Data, Recipe
from gcl_custom.recipe_file import load_recipe
from gcl_custom.runs import Run, locked, open_run, require_free, write_atomically, write_json

RECIPE = Recipe(name="first", data=Data(root="tiles"))


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


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as part:
        part.write_text(f"half {1 / 0}")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_open_run_by_recipe_by_name_and_latest(tmp_path: Path) -> None:
    runs, recipe = tmp_path / "runs", tmp_path / "mine.yaml"
    recipe.write_text("data: {root: tiles, size: 64}\n")
    with pytest.raises(UserError, match=r"no run in .* yet"):
        open_run(runs, None, None)
    for name in (None, "other"):
        run = open_run(runs, str(recipe), name)
        run.path.mkdir(parents=True)
        with run.saved():
            pass
    assert open_run(runs, None, None).path == runs / "other"
    assert open_run(runs, None, "mine").recipe == load_recipe(recipe)
    assert open_run(runs, None, "mine", ["data.size=32"]).recipe.data.size == 32
    with pytest.raises(UserError, match="There are: mine, other"):
        open_run(runs, None, "third")


def test_a_refused_recipe_does_not_replace_the_one_before(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", RECIPE)
    run.path.mkdir()
    with run.saved():
        pass
    changed = Run(run.path, RECIPE.model_copy(update={"seed": 5}))
    with pytest.raises(StaleStage), changed.saved():
        raise StaleStage
    assert load_recipe(run.path / "recipe.yaml").seed == 0


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with locked(path):
        ready.set()
        done.wait(20)


def test_two_processes_never_share_a_run_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "r", ready, done))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(Busy, match=r"Another process is working in .*, or use --run NEW_NAME"), locked(tmp_path / "r"):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path / "r"):
        pass


def test_a_place_is_free_if_nothing_is_there_or_it_may_be_replaced_by_its_like(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    require_free(tmp_path / "new" / "deeper" / "file", overwrite=False)
    assert (tmp_path / "new" / "deeper").is_dir()
    for path, is_folder in ((file, False), (folder, True)):
        require_free(path, overwrite=True, folder=is_folder)
        with pytest.raises(UserError, match="--overwrite"):
            require_free(path, overwrite=False, folder=is_folder)
        with pytest.raises(UserError, match=r"is a (file|folder), and a"):
            require_free(path, overwrite=True, folder=not is_folder)
    with pytest.raises(UserError, match="folder cannot be made"):
        require_free(file / "inside", overwrite=False)
