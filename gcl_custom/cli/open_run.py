"""Which run a command works on. Its argument may be a recipe, the name of a shipped one, or images."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from gcl_custom.console import say
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection_names import may_be_collection
from gcl_custom.recipe.file import shipped
from gcl_custom.recipe.names import run_name
from gcl_custom.runs.run import Run, is_output, kept_run, open_run, run_folder
from gcl_custom.runs.stage import of_another_version


def opened(runs: Path, given: str | None, name: str | None, overrides: Sequence[str] = (), redo: bool = False) -> Run:
    """The run that a command works on.

    Args:
        given: a recipe file, the name of a shipped recipe, or a folder or a collection of images. The first command on
            images begins a run of their name with a shipped recipe that suits them; later ones go on with the recipe
            that this run keeps. Without it, the run itself is opened.
        runs, name, overrides, redo: as ``open_run`` takes them.

    Raises:
        UserError: there is no such run, recipe or image; or the argument could mean two things.
    """
    if given is None or not (Path(given).is_dir() or may_be_collection(given)):
        return open_run(runs, given, name, overrides, redo)
    folder = Path(given)
    if given in shipped("recipes"):
        raise UserError(
            f"{given} is a folder here and the name of a shipped recipe. Give ./{given} for the images in the folder, "
            f"or for the recipe a copy of it: gcl-custom recipes copy {folder} OTHER.yaml"
        )
    if is_output(folder):
        raise UserError(f"{given} is the folder of a run, not of images. Leave it out, and add --run {folder.name}")
    path = run_folder(runs, name or run_name(folder))
    if (path / "recipe.yaml").is_file() and not (redo and of_another_version(path)):
        run = kept_run(path, overrides, redo)
        if Path(run.recipe.data.root).resolve() != folder.resolve():
            raise UserError(
                f"There is a run {path.name} already, on the images in {run.recipe.data.root}. For those in {given}, "
                f"add --run NEW_NAME"
            )
        return run
    kind, recipe = import_module("gcl_custom.check.folder_recipe").folder_recipe(folder, overrides)
    say(
        f"a first try on {folder} with the shipped recipe {kind}: {counted(recipe.pretrain.epochs, 'epoch')}, tiles of "
        f"{recipe.data.size} px. Your own recipe: gcl-custom recipes copy {kind} mine.yaml"
    )
    return Run(path, recipe, redo)
