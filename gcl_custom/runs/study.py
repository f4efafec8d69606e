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
    seeds: [0, 1, 2, 3, 4]                                   # each cell once for each, with a generator of its own

The folder of a study holds ``stages/`` (the pool), ``cells/``, and the table that ``study_results`` makes.
"""

import itertools
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from gcl_custom.console import duration, say
from gcl_custom.errors import Busy, RecipeError
from gcl_custom.files import locked
from gcl_custom.recipe.file import check_values, load_recipe, override_of, read_mapping
from gcl_custom.recipe.names import NAME, folder_name, with_digest
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import Section, Seed
from gcl_custom.runs import plan
from gcl_custom.runs.run import CELLS, POOL, Run
from gcl_custom.runs.stage import Pool

SEEDS = ("seed", "compare.seeds")
"""Keys of the recipe that ``Study.seeds`` sets in each run."""
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
    seeds: list[Seed] = Field(default=[])
    """Each cell is made once for each of these seeds: the generator, the views and the pretraining anew, on the same
    tiles. Its scores and comparisons are over these runs, so intervals hold what the generator varies, too. Without
    them, a cell is one run: the pretrainings of compare.seeds share one generator and its views."""

    @model_validator(mode="after")
    def _different(self) -> "Study":
        for axis, options in self.grid.items():
            if isinstance(options, list) and any(value in options[:place] for place, value in enumerate(options)):
                raise ValueError(f"grid: the values of {axis} must not repeat")
        return self

    @model_validator(mode="after")
    def _baseline(self) -> "Study":
        for axis, value in self.baseline.items():
            if axis not in self.grid:
                raise ValueError(f"baseline names {axis}, which is no axis of the grid: {', '.join(self.grid)}")
            if value not in self.grid[axis]:
                raise ValueError(f"baseline: {axis} has no value {value!r}: {', '.join(map(str, self.grid[axis]))}")
        return self

    @model_validator(mode="after")
    def _own_seeds(self) -> "Study":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must not repeat")
        for key in self._changed():
            if self.seeds and key in SEEDS:
                raise ValueError(f"seeds set {key} of each run. Take {key} out of settings and grid, or take out seeds")
        return self

    def _changed(self) -> Iterator[str]:
        """The keys of the recipe that settings or the grid name."""
        yield from _keys(self.settings)
        for axis, options in self.grid.items():
            for changes in options.values() if isinstance(options, dict) else [{axis: None}]:
                yield from _keys(changes)


def _keys(changes: Mapping[str, Any], section: str = "") -> Iterator[str]:
    """The keys that changes name, with those inside of a section that they replace."""
    for key, value in changes.items():
        yield f"{section}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{section}{key}.")


@dataclass(frozen=True)
class Cell:
    """One combination of the grid."""

    name: str
    place: dict[str, Any]
    """Axis -> its value, or the name of its changes."""
    runs: Sequence[Run]
    """One for each of the study's seeds; a single one where it has none."""

    @property
    def run(self) -> Run:
        """The first of the runs. The others differ from it in their seeds alone."""
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        """The seeds of all pretrainings of an arm."""
        return [seed for run in self.runs for seed in run.recipe.compare.seeds]

    @property
    def done(self) -> bool:
        """Whether all runs have been scored."""
        return all(map(compared, self.runs))


@dataclass(frozen=True)
class Grid:
    """A study and its cells, whose recipes are all checked."""

    study: Study
    path: Path
    cells: Sequence[Cell]

    @property
    def runs(self) -> list[Run]:
        """The runs of all cells in the order of their work: all cells with the first seed, then with the next."""
        return [run for of_a_seed in zip(*(cell.runs for cell in self.cells), strict=True) for run in of_a_seed]

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
        for key in _keys(dict([override_of(override)])):
            if key in study.grid:
                raise RecipeError(f"--set {override}: {key} is an axis of the study's grid")
            if study.seeds and key in SEEDS:
                raise RecipeError(f"--set {override}: the seeds of the study set {key}. Change them in {path}")
    cells: list[Cell] = []
    for place in itertools.product(*([(axis, value) for value in values] for axis, values in study.grid.items())):
        changes = {**study.settings}
        for axis, value in place:
            options = study.grid[axis]
            changes |= options[value] if isinstance(options, dict) else {axis: value}
        # YAML reads some names, such as 2020-01-01, as dates.
        texts = [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()]
        name = _cell_name(place)
        try:
            recipes = [load_recipe(recipe, [*texts, *overrides, *own]) for own in _of_each_run(study)]
        except RecipeError as error:
            raise RecipeError(f"{path}, cell {name}: {error}") from None
        if any(cell.name == name for cell in cells):  # of paths that differ in signs alone
            name = with_digest(name, repr(place))
        cells.append(Cell(name, dict(place), [_run(study, name, loaded, redo, runs) for loaded in recipes]))
    return Grid(study, runs / study.name, cells)


def _of_each_run(study: Study) -> list[list[str]]:
    """What sets the runs of a cell apart, as for --set."""
    return [[f"seed={seed}", f"compare.seeds=[{seed}]"] for seed in study.seeds] or [[]]


def _run(study: Study, cell: str, recipe: Recipe, redo: bool, runs: Path) -> Run:
    folder = runs / study.name
    name = folder_name(f"{cell},seed={recipe.seed}") if study.seeds else cell
    return Run(folder / CELLS / name, recipe, redo, Pool(folder / POOL, lender=runs / recipe.name))


def _cell_name(place: Sequence[tuple[str, Any]]) -> str:
    """The name of a cell, such as mask_probability=0.25,mixing_rate=0.5. That of a run may end in a seed."""
    return folder_name(",".join(f"{axis.rpartition('.')[2]}={label(value)}" for axis, value in place))


def label(value: object) -> str:
    """A value of an axis, as it is written in names and tables."""
    if isinstance(value, list):
        return "+".join(label(part) for part in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands(grid: Grid, given: str, overrides: Sequence[str], runs: Path) -> list[str]:
    """The command for each run of each cell, for a scheduler."""
    settings = [part for text in overrides for part in ("--set", text)]
    names = [run.path.name for run in grid.runs]
    words = [["gcl-custom", "study", given, "--cell", name, *settings, "--runs", str(runs)] for name in names]
    return [shlex.join(each) for each in words]


def compared(run: Run) -> bool:
    """Whether a run of a study has been scored."""
    return plan.compare(run).done


def run_cells(grid: Grid, only: str | None, job: Callable[[Run], None]) -> None:
    """Do the unfinished runs of all cells in order.

    Several processes may work on one study. If two runs need the same stage, one process makes it and the other waits.
    A run that another process is doing is skipped and waited for at the end. So every cell is finished when this
    returns, whichever process did it.

    Args:
        only: name of the one cell to do, with all of its seeds, or of one of its runs; None for all.
        job: does the work of one run.

    Raises:
        UserError: there is no cell or run of that name, or another process is doing that one run.
    """
    of_cell = [run.path.name for cell in grid.cells if cell.name == only for run in cell.runs]
    runs = [run for run in grid.runs if only in (None, run.path.name) or run.path.name in of_cell]
    if not runs:
        names = "\n".join(f"  {run.path.name}" for run in grid.runs)
        raise RecipeError(f"The study {grid.study.name} has no cell {only!r}. There are:\n{names}")
    one = "run" if grid.study.seeds else "cell"
    began, worked, passed = time.monotonic(), 0, list[tuple[str, Run]]()
    for number, run in enumerate(runs, start=1):
        title = f"{one} {number} of {len(runs)}, {run.path.name}"
        try:
            if not _do(title, run, job):
                continue
        except Busy:
            if len(runs) == 1:
                raise
            say(f"{title}: passed over, another process is working on it")
            passed.append((title, run))
            continue
        worked += 1
        left = (time.monotonic() - began) / worked * sum(not compared(other) for other in runs[number:])
        if left:
            say(f"{one} {number} of {len(runs)} done; about {duration(left)} left")
    for title, run in passed:
        if not compared(run):
            say(f"{title}: waiting for the other process that is working on it")
        _do(title, run, job, wait=True)


def _do(title: str, run: Run, job: Callable[[Run], None], wait: bool = False) -> bool:
    """Do a run. Returns whether there was work to do.

    Raises:
        Busy: another process is doing it, and ``wait`` is false.
    """
    if not compared(run):
        with locked(run.path, wait, "do another cell, see --list"):
            if not compared(run):  # another process may have finished it by now
                say(title)
                with run.saved():
                    job(run)
                return True
    say(f"{title}: done before")
    return False
