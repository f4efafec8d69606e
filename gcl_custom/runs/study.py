"""Studies: a grid over the keys of a recipe. Each cell is a run, and a stage that cells share is made once.

    name: masks
    recipe: eurosat-scratch
    settings: {compare.arms: [gcl], compare.fractions: []}     # of every cell
    grid:
      views.mask_probability: [0.25, 0.5, 0.75]                # an axis of values of one key
      method:                                                  # or of named changes to several
        vicreg: {pretrain.method.name: vicreg}
        byol: {pretrain.method.name: byol, pretrain.optimizer.learning_rate: 1e-3}
    baseline: {method: vicreg}                               # what the other cells are compared with

The folder of a study holds ``stages/`` (the pool), ``cells/``, and the table that ``study_results`` makes.
"""

import itertools
import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from gcl_custom.console import duration, say
from gcl_custom.errors import Busy, RecipeError
from gcl_custom.files import locked
from gcl_custom.recipe.file import check_values, load_recipe, read_mapping
from gcl_custom.recipe.names import NAME, folder_name, with_digest
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section
from gcl_custom.runs import plan
from gcl_custom.runs.run import CELLS, POOL, Run
from gcl_custom.runs.stage import Pool

Axis = Annotated[list[Any], Field(min_length=1)] | Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


class Study(Section):
    """A study as its file has it."""

    name: Annotated[str, Field(pattern=NAME)]
    recipe: str
    """A shipped recipe's name, or a path relative to the study's file."""
    settings: dict[str, Any] = Field(default={})
    """Keys of the recipe for every cell, written as for --set."""
    grid: Annotated[dict[Annotated[str, Field(pattern=NAME)], Axis], Field(min_length=1)]
    baseline: dict[str, Any] = Field(default={})
    """Axis -> value. Each cell is compared with the cell that has these values in place of its own."""

    @model_validator(mode="after")
    def _baseline(self) -> "Study":
        for axis, value in self.baseline.items():
            if axis not in self.grid:
                raise ValueError(f"baseline names {axis}, which is no axis of the grid: {', '.join(self.grid)}")
            if value not in self.grid[axis]:
                raise ValueError(f"baseline: {axis} has no value {value!r}: {', '.join(map(str, self.grid[axis]))}")
        return self


@dataclass(frozen=True)
class Cell:
    """One combination of the grid."""

    place: dict[str, Any]
    """Axis -> its value, or the name of its changes."""
    run: Run

    @property
    def name(self) -> str:
        return self.run.path.name


@dataclass(frozen=True)
class Grid:
    """A study and its cells, whose recipes are all checked."""

    study: Study
    path: Path
    cells: Sequence[Cell]

    def alone(self) -> AbstractContextManager[None]:
        """Hold the lock of the table. The process that comes last then sees every finished cell."""
        return locked(self.path / CELLS, wait=True)

    def baseline_of(self, cell: Cell) -> Cell | None:
        """The cell that this one is compared with. None for a baseline itself, and for a study without one."""
        place = {**cell.place, **self.study.baseline}
        return None if place == cell.place else next(other for other in self.cells if other.place == place)


def load_study(given: str | Path, runs: Path, overrides: Sequence[str] = (), redo: bool = False) -> Grid:
    """Read a study and check the recipe of every cell.

    Args:
        given: a YAML file, or the name of a study that ships with the package.
        runs: folder of all runs. The study gets a folder there, and the recipe's own run there lends its stages.
        overrides: texts ``key.path=value`` for every cell.
        redo: replace output that was made from other settings.

    Raises:
        RecipeError: the study has mistakes, which are all listed, or else the recipe of a cell has.
    """
    path, values = read_mapping(given, "study")
    study = check_values(Study, values, str(path))
    beside = path.parent / study.recipe
    recipe = beside if beside.is_file() else study.recipe
    for override in overrides:
        if override.partition("=")[0] in study.grid:
            raise RecipeError(f"--set {override}: this key is an axis of the study's grid")
    cells: list[Cell] = []
    for place in itertools.product(*([(axis, value) for value in values] for axis, values in study.grid.items())):
        changes = {**study.settings}
        for axis, value in place:
            options = study.grid[axis]
            changes |= options[value] if isinstance(options, dict) else {axis: value}
        texts = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        try:
            loaded = load_recipe(recipe, [*texts, *overrides])
        except RecipeError as error:
            raise RecipeError(f"{path}, cell {_cell_name(place)}: {error}") from None
        name = _cell_name(place)
        if any(cell.name == name for cell in cells):  # of paths that differ in signs alone
            name = with_digest(name, repr(place))
        cells.append(_cell(runs / study.name / CELLS / name, dict(place), loaded, redo, runs))
    return Grid(study, runs / study.name, cells)


def _cell(folder: Path, place: dict[str, Any], recipe: Recipe, redo: bool, runs: Path) -> Cell:
    pool = Pool(folder.parent.parent / POOL, lender=runs / recipe.name)
    return Cell(place, Run(folder, recipe, redo, pool))


def _cell_name(place: Sequence[tuple[str, Any]]) -> str:
    """The name of a cell's folder, and what --cell takes, such as mask_probability=0.25,mixing_rate=0.5."""
    return folder_name(",".join(f"{axis.rpartition('.')[2]}={label(value)}" for axis, value in place))


def label(value: object) -> str:
    """A value of an axis, as it is written in names and tables."""
    if isinstance(value, list):
        return "+".join(label(part) for part in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands(grid: Grid, given: str, overrides: Sequence[str], runs: Path) -> list[str]:
    """The command for each single cell, for a scheduler."""
    settings = [part for text in overrides for part in ("--set", text)]
    words = [["gcl-custom", "study", given, "--cell", cell.name, *settings, "--runs", str(runs)] for cell in grid.cells]
    return [shlex.join(each) for each in words]


def compared(run: Run) -> bool:
    """Whether a cell of a study has been scored."""
    return plan.compare(run).done


def run_cells(grid: Grid, only: str | None, job: Callable[[Run], None]) -> None:
    """Do the unfinished cells in order.

    Several processes may work on one study. If two cells need the same stage, one process makes it and the other waits.
    A cell that another process is doing is skipped and waited for at the end. So every cell is finished when this
    returns, whichever process did it.

    Args:
        only: name of the one cell to do; None for all.
        job: does the work of one cell.

    Raises:
        UserError: there is no cell of that name, or another process is doing it.
    """
    cells = [cell for cell in grid.cells if only in (None, cell.name)]
    if not cells:
        names = "\n".join(f"  {cell.name}" for cell in grid.cells)
        raise RecipeError(f"The study {grid.study.name} has no cell {only!r}. There are:\n{names}")
    began, worked, passed = time.monotonic(), 0, list[tuple[str, Cell]]()
    for number, cell in enumerate(cells, start=1):
        title = f"cell {number} of {len(cells)}, {cell.name}"
        try:
            if not _do(title, cell, job):
                continue
        except Busy:
            if only is not None:
                raise
            say(f"{title}: passed over, another process is working on it")
            passed.append((title, cell))
            continue
        worked += 1
        left = (time.monotonic() - began) / worked * sum(not compared(other.run) for other in cells[number:])
        if left:
            say(f"cell {number} of {len(cells)} done; about {duration(left)} left")
    for title, cell in passed:
        if not compared(cell.run):
            say(f"{title}: waiting for the other process that is working on it")
        _do(title, cell, job, wait=True)


def _do(title: str, cell: Cell, job: Callable[[Run], None], wait: bool = False) -> bool:
    """Do a cell. Returns whether there was work to do.

    Raises:
        Busy: another process is doing it, and ``wait`` is false.
    """
    if not compared(cell.run):
        with locked(cell.run.path, wait, "do another cell, see --list"):
            if not compared(cell.run):  # another process may have finished it by now
                say(title)
                with cell.run.saved():
                    job(cell.run)
                return True
    say(f"{title}: done before")
    return False
