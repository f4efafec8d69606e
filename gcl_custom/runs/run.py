"""A run's folder: its copy of the recipe, its stages, and which run a command works on."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcl_custom.errors import RecipeError, Refused, UserError
from gcl_custom.files import locked, read_json, write_json, write_text
from gcl_custom.recipe.file import dump_recipe, load_recipe
from gcl_custom.recipe.names import LONGEST, is_folder_name
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.stage import Pool, Stage, of_another_version
from gcl_custom.weights.digests import contents
from gcl_custom.weights.needed import needed

RUNS = Path("runs")
"""Folder of all runs, unless --runs names another."""
CELLS, POOL = "cells", "stages"
"""Folders of a study: its cells, which are runs, and the pool of their stages."""
LATEST = "latest"
"""The file among the runs that holds the name of the one that was begun last."""

WEIGHTS = "weights.json"
"""File that remembers the digests of the weights that a recipe names; see ``digests.contents``."""


@dataclass
class Run:
    """A recipe and the folder with everything that is made from it."""

    path: Path
    recipe: Recipe
    redo: bool = False
    pool: Pool | None = None

    def stage(
        self,
        name: str,
        settings: Mapping[str, Any],
        inputs: Sequence[Stage] = (),
        remedy: str = "",
    ) -> Stage:
        """The stage with this name, settings and inputs."""
        path = self.path / name if self.pool is None else self.pool.folder(name, settings, inputs)
        remedy = f"{remedy} {self.options}"
        return Stage(name, path, settings, inputs, self.redo, remedy, self.pool, needed(self.recipe))

    @property
    def name(self) -> str:
        """What --run takes: the name, or STUDY/cells/CELL for a cell of a study."""
        return "/".join(self.path.parts[-3:] if self._is_cell else self.path.parts[-1:])

    @property
    def options(self) -> str:
        """The options that name this run on the command line."""
        runs = self.path.parents[2 if self._is_cell else 0]
        return shlex.join(["--run", self.name, *([] if runs == RUNS else ["--runs", str(runs)])])

    @property
    def _is_cell(self) -> bool:
        # The pool has no folder before its first stage.
        return self.path.parent.name == CELLS and (self.pool is not None or _in_a_study(self.path))

    def uses(self, stage: Stage) -> bool:
        """Whether other stages were begun, which may have been made from this one's output."""
        home = self.path if self.pool is None else self.pool.path
        return any(record.parent != stage.path for record in _records(home))

    @property
    def contents(self) -> Mapping[str, str]:
        """Key of the recipe that names weights -> the digest of their content. Digests are kept beside the run."""
        kept = (self.pool.path if self.pool else self.path) / WEIGHTS
        before = read_json(kept) if kept.is_file() else {}
        found, known = contents(self.recipe, before)
        if known != before and kept.parent.is_dir():
            with suppress(OSError):  # in a folder that cannot be written to, digests are computed again each time
                write_json(kept, known)
        return found

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Write the resolved recipe, and mark the run as the latest.

        If a mistake of the user ends the work before anything was begun, the recipe before stays. A new run then keeps
        none, so that a value of ``--set`` that was refused is in no later command.
        """
        kept, latest = self.path / "recipe.yaml", self.path.parent / LATEST
        before, last = (path.read_text(encoding="utf-8") if path.is_file() else None for path in (kept, latest))
        begun = self._begun
        write_text(kept, dump_recipe(self.recipe))
        with locked(self.path.parent, wait=True):  # cells of a study share this file, and may begin at the same moment
            write_text(latest, self.path.name)
        try:
            yield
        except UserError as error:
            if (isinstance(error, Refused) and before is not None) or self._begun == begun:
                _restore(kept, before)
                if before is None:
                    with locked(self.path.parent, wait=True):
                        if latest.read_text(encoding="utf-8") == self.path.name:  # no other run has begun meanwhile
                            _restore(latest, last)
                    if not self._is_cell:  # another process may wait for a cell's lock, but none for a run's
                        _remove_if_empty(self.path)
            raise

    @property
    def _begun(self) -> set[tuple[Path, int]]:
        """The records of stages with their times of change. Nothing is made from an unfinished packing."""
        home = self.path if self.pool is None else self.pool.path
        found = set()
        for record in _records(home):
            if record.name == "working.json" and _packs(record.parent):
                continue
            with suppress(FileNotFoundError):  # another cell of a study has just finished that stage
                found.add((record, record.stat().st_mtime_ns))
        return found


def _packs(folder: Path) -> bool:
    """Whether a folder is that of the stage tiles, in a run or in a pool."""
    return folder.name.partition("-")[0] == "tiles"


def _restore(path: Path, text: str | None) -> None:
    """Give a file the text that it had; None if there was no file."""
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, text)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run in which nothing was begun."""
    nothing = {".lock", WEIGHTS}
    if {path.name for path in folder.iterdir()} <= nothing:
        with suppress(OSError):  # Windows keeps a lock that is held
            for name in nothing:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def _records(folder: Path) -> Iterator[Path]:
    """The record of each stage in the folder of a run, or in a pool."""
    for depth in ("*", "*/*", "*/*/*"):  # evaluate/probes/NAME is the deepest
        yield from [*folder.glob(f"{depth}/stage.json"), *folder.glob(f"{depth}/working.json")]


def is_output(folder: Path) -> bool:
    """Whether a folder is a run or a study: what lies in it was made here, and is no imagery."""
    is_study = (folder / CELLS).is_dir() and (folder / POOL).is_dir()
    return is_study or ((folder / "recipe.yaml").is_file() and any(_records(folder)))


def _in_a_study(path: Path) -> bool:
    """Whether a run lies where a study keeps its cells; a user's own folder may have the same name."""
    return path.parent.name == CELLS and (path.parents[1] / POOL).is_dir()


def kept_run(path: Path, overrides: Sequence[str] = (), redo: bool = False) -> Run:
    """The run in a folder, with the recipe that it keeps. A cell of a study, STUDY/cells/CELL, is a run as well.

    Raises:
        UserError: the recipe or the overrides have mistakes, or another version wrote keys that are unknown here.
    """
    study, is_cell = path.parent.parent, _in_a_study(path)
    try:
        recipe = load_recipe(path / "recipe.yaml", overrides)
    except RecipeError:
        if not of_another_version(study / POOL if is_cell else path):
            raise
        raise UserError(
            f"{path} was made by another version, whose recipe is not understood here. Give a recipe file: "
            f"gcl-custom run RECIPE with --redo to replace what is there, or with --run NEW_NAME to keep both."
        ) from None
    return Run(path, recipe, redo, Pool(study / POOL, lender=study.parent / recipe.name) if is_cell else None)


def run_folder(runs: Path, name: str) -> Path:
    """The folder of a run, or of a cell of a study, by its name.

    Raises:
        UserError: it is no name of a run, but a path that may lead elsewhere.
    """
    parts = name.split("/")
    if name == LATEST:
        raise UserError(
            f"a run cannot be called {LATEST}, which is the file that names the latest one: give --run NEW_NAME"
        )
    if len(parts) not in (1, 3) or parts[1:2] not in ([], [CELLS]) or not all(map(is_folder_name, parts)):
        raise UserError(
            f"--run {name!r}: a run's name is made of letters, digits and any of . , = + - _ and blanks, begins with a "
            f"letter or a digit, has {LONGEST} bytes at most, and is no path; a cell of a study is STUDY/{CELLS}/CELL. "
            f"To change the folder of all runs, give --runs"
        )
    return runs / name


def open_run(
    runs: Path, recipe: str | None, name: str | None, overrides: Sequence[str] = (), redo: bool = False
) -> Run:
    """The run that a command works on.

    Args:
        runs: folder of all runs.
        recipe: a file or a shipped name. Without it, the recipe that the run keeps.
        name: of the run. Without it, the name of the recipe; without both, the latest run.
        overrides: texts ``key.path=value``.
        redo: replace output that was made from other settings.

    Raises:
        UserError: there is no such run, its name is none, or the recipe has mistakes.
    """
    if recipe is None:
        latest = runs / LATEST
        if name is None and not latest.is_file():
            raise UserError(f"There is no run in {runs} yet. Start one with a recipe: gcl-custom fit-generator RECIPE")
        name = name or latest.read_text(encoding="utf-8").strip()
        kept = run_folder(runs, name) / "recipe.yaml"
        if not kept.is_file():
            known = sorted(path.parent.name for path in runs.glob("*/recipe.yaml"))
            raise UserError(f"There is no run {name!r} in {runs}. There are: {', '.join(known) or 'none'}")
        return kept_run(runs / name, overrides, redo)
    loaded = load_recipe(recipe, overrides)
    return Run(run_folder(runs, name or loaded.name), loaded, redo)
