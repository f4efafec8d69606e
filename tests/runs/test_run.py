"""Which run a command works on, and the recipe that it keeps."""

from pathlib import Path

import pytest

from gcl_custom.errors import StaleStage, UserError
from gcl_custom.files import locked, write_json
from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run, is_output, kept_run, open_run
from gcl_custom.runs.stage import FORMAT, Pool

RECIPE = Recipe(name="first", data=DataSettings(root="tiles"))


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


def fail(run: Run, begun: str | None) -> None:
    """Begin a stage, perhaps, and end with a mistake."""
    if begun:
        run.stage(begun, {}).begin()
    raise UserError("there is no band 9")


def begin_and_fail(other: Run) -> None:
    """End with a mistake after another process has begun a run."""
    with other.saved():
        pass
    raise UserError


@pytest.mark.parametrize(("begun", "stays"), [(None, 0), ("tiles", 0), ("views", 5)])
def test_a_mistake_before_anything_was_begun_leaves_the_recipe_as_it_was(
    begun: str | None, stays: int, tmp_path: Path
) -> None:
    """Nothing is made from an unfinished packing; of other stages the output needs the recipe that made it."""
    run = Run(tmp_path / "r", RECIPE)
    run.path.mkdir()
    with run.saved():
        pass
    changed = Run(run.path, RECIPE.model_copy(update={"seed": 5}))
    with pytest.raises(UserError, match="no band 9"), changed.saved():
        fail(changed, begun)
    assert load_recipe(run.path / "recipe.yaml").seed == stays


def test_a_new_run_in_which_nothing_was_begun_leaves_nothing(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "first", RECIPE), Run(tmp_path / "second", RECIPE)
    second.path.mkdir()
    with pytest.raises(UserError), locked(first.path), first.saved():
        raise UserError
    assert not first.path.exists()
    assert not (tmp_path / "latest").exists()
    with second.saved():
        pass
    with pytest.raises(UserError), locked(first.path), first.saved():
        raise UserError
    assert open_run(tmp_path, None, None).path == second.path
    third = Run(tmp_path / "third", RECIPE)
    third.path.mkdir()
    with pytest.raises(UserError), locked(first.path), first.saved():
        begin_and_fail(third)
    assert open_run(tmp_path, None, None).path == third.path
    with pytest.raises(UserError), locked(first.path), first.saved():
        fail(first, "tokenizer")
    assert open_run(tmp_path, None, None).path == first.path


def test_what_a_refused_run_finds_in_its_folder_stays(tmp_path: Path) -> None:
    run = Run(tmp_path / "mine", RECIPE)
    run.path.mkdir()
    (run.path / "notes.txt").touch()
    with pytest.raises(UserError), locked(run.path), run.saved():
        raise UserError
    assert (run.path / "notes.txt").is_file()


@pytest.mark.parametrize("record", ["tiles/stage.json", "tiles/working.json"])
def test_a_run_of_another_version_is_named_as_such(tmp_path: Path, record: str) -> None:
    """Not as a recipe with mistakes, which nobody made."""
    run, kept = tmp_path / "old", tmp_path / "old" / record
    kept.parent.mkdir(parents=True)
    (run / "recipe.yaml").write_text("data: {root: tiles}\nhardware: {machines: 1}\n")
    write_json(kept, {"format": FORMAT - 1})
    with pytest.raises(UserError, match=r"old was made by another version.*--redo.*--run NEW_NAME") as refused:
        open_run(tmp_path, None, "old")
    assert "machines" not in str(refused.value)
    write_json(kept, {"format": FORMAT})
    with pytest.raises(UserError, match=r"hardware\.machines: unknown key"):
        open_run(tmp_path, None, "old")


def test_a_cell_of_another_version_is_known_by_the_stages_of_its_study(tmp_path: Path) -> None:
    cell, kept = tmp_path / "study" / "cells" / "seed=1", tmp_path / "study" / "stages" / "tiles-0a" / "stage.json"
    for folder in (cell, kept.parent):
        folder.mkdir(parents=True)
    (cell / "recipe.yaml").write_text("data: {root: tiles}\nhardware: {machines: 1}\n")
    write_json(kept, {"format": FORMAT - 1})
    with pytest.raises(UserError, match="seed=1 was made by another version"):
        kept_run(cell)


@pytest.mark.parametrize("name", ["../x", "..", ".", "/tmp/x", "a/../../x", "a/b", "a/cells/..", "a/cells/b/c", ""])
def test_a_path_is_no_name_of_a_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("data: {root: tiles}")
    with pytest.raises(UserError, match=r"a run's name is made of|There is no run"):
        open_run(tmp_path / "runs", None, name or "-")
    if name:
        with pytest.raises(UserError, match="a run's name is made of"):
            open_run(tmp_path / "runs", str(tmp_path / "mine.yaml"), name)
    assert open_run(tmp_path / "runs", str(tmp_path / "mine.yaml"), "a/cells/b=0.5").path.name == "b=0.5"


def test_a_run_is_named_as_a_command_line_finds_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "study" / "stages")
    cell = Run(Path("runs/study/cells/rate=0.5"), RECIPE, pool=pool)
    assert (cell.name, cell.options) == ("study/cells/rate=0.5", "--run study/cells/rate=0.5")
    assert Run(Path("runs/a b"), RECIPE).options == "--run 'a b'"
    assert Run(tmp_path / "a", RECIPE).options == f"--run a --runs {tmp_path}"
    assert Run(tmp_path / "a", RECIPE).stage("x", {}, remedy="gcl-custom pretrain").remedy.endswith(str(tmp_path))


def test_the_folders_of_runs_and_studies_are_known_as_output(tmp_path: Path) -> None:
    run, study, images = tmp_path / "run", tmp_path / "study", tmp_path / "images"
    for folder in (run / "evaluate" / "probes" / "ours", study / "cells", study / "stages", images / "forest"):
        folder.mkdir(parents=True)
    (run / "recipe.yaml").write_text("")
    (images / "recipe.yaml").write_text("")
    assert not is_output(run), "a folder with a recipe alone may hold anything"
    write_json(run / "evaluate" / "probes" / "ours" / "working.json", {})
    assert [is_output(folder) for folder in (run, study, images)] == [True, True, False]


@pytest.mark.parametrize(
    ("path", "options"),
    [("runs/mine", "--run mine"), ("other place/mine", "--run mine --runs 'other place'"),
     ("runs/grid/cells/rate=0.5", "--run grid/cells/rate=0.5"), ("/a/grid/cells/x", "--run grid/cells/x --runs /a")],
)  # fmt: skip
def test_the_options_of_a_run_name_it_wherever_it_is(path: str, options: str) -> None:
    place = Path(path)
    pool = Pool(place.parents[1] / "stages") if place.parent.name == "cells" else None
    assert Run(place, RECIPE, pool=pool).options == options


def test_a_folder_of_runs_may_be_called_cells(tmp_path: Path) -> None:
    run = Run(tmp_path / "cells" / "x", RECIPE)
    assert run.options == f"--run x --runs {tmp_path / 'cells'}"


def test_a_run_is_not_called_like_the_file_that_names_the_latest(tmp_path: Path) -> None:
    recipe = tmp_path / "latest.yaml"
    recipe.write_text("data: {root: tiles, size: 64}\n")
    with pytest.raises(UserError, match="cannot be called latest"):
        open_run(tmp_path / "runs", str(recipe), None)
    assert open_run(tmp_path / "runs", str(recipe), "other").name == "other"
