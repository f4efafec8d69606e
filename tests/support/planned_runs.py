"""Runs of a plain recipe whose stages are only said to be finished."""

from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

RECIPE = Recipe(name="r", data=DataSettings(root="tiles"))


def finish(stage: Stage) -> None:
    for before in stage.inputs:
        if not before.done:
            finish(before)
    stage.begin()
    stage.finish(content="same")


def changed(run: Run, **sections: dict) -> Run:
    update = {name: getattr(run.recipe, name).model_copy(update=keys) for name, keys in sections.items()}
    return Run(run.path, run.recipe.model_copy(update=update), run.redo, run.pool)
