"""Choosing mask probability and mixing rate without labels: short probes over a grid, each a cell of a study.

The cells share what a study's cells share: one generator, lent by a run of the recipe where there is one, the views of
a mask probability, and one pretraining at mixing rate 0, whose views no mask probability changes. No label is read,
unless it is asked how well the label-free measures agree with labelled scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gcl_custom import plan
from gcl_custom.errors import RecipeError, UserError
from gcl_custom.files import read_json
from gcl_custom.recipe_file import check_values, load_recipe
from gcl_custom.runs import Run, Stage
from gcl_custom.study import Cell, Grid, Study, label, make_grid

MASK = "views.mask_probability"
RATE = "pretrain.mixing_rate"
MASKS = [0.25, 0.5, 0.75]
RATES = [0.0, 0.25, 0.5, 0.75, 1.0]
EPOCHS = 2
SEEDS = [0]


def load_grid(
    recipe: str,
    runs: Path,
    masks: Sequence[float] = MASKS,
    rates: Sequence[float] = RATES,
    epochs: int = EPOCHS,
    seeds: Sequence[int] = SEEDS,
    overrides: Sequence[str] = (),
    redo: bool = False,
) -> Grid:
    """The probes of a recipe, each pretraining once, in the folder NAME-suggest.

    Args:
        recipe: a file, or the name of a shipped recipe.
        runs: folder of all runs.
        masks, rates, epochs, seeds: of the probes.
        overrides: ``key.path=value`` texts, for every probe.

    Raises:
        RecipeError: the recipe has mistakes, or an override changes what probes are about.
    """
    settings = {
        "pretrain.epochs": epochs,
        "pretrain.probe_every": 0,  # the online kNN would read labels
        "compare.seeds": [*seeds],
        "compare.arms": ["gcl"],
        "compare.fractions": [],
    }
    for override in overrides:
        if override.partition("=")[0] in settings:
            raise RecipeError(f"--set {override}: suggest sets this key for its probes; see --epochs and --seed")
    values = {
        "name": f"{load_recipe(recipe, overrides).name}-suggest",
        "recipe": recipe,
        "settings": settings,
        "grid": {MASK: [*masks], RATE: [*rates]},
    }
    grid = make_grid(check_values(Study, values, "suggest"), recipe, "suggest", runs, overrides, redo)
    once: dict[tuple[Path, ...], Cell] = {}
    for cell in grid.cells:
        once.setdefault(tuple(stage.path for stage in _pretrainings(cell.run)), cell)
    return replace(grid, cells=list(once.values()))


def measured(run: Run) -> bool:
    """Whether a probe has its label-free measures."""
    views = not plan.mixes_views(run.recipe.pretrain) or plan.likeness(run).done
    return views and all(plan.measures(run, seed).done for seed in run.recipe.compare.seeds)


def measured_and_scored(run: Run) -> bool:
    """Whether a probe has its label-free measures and its linear probes."""
    return measured(run) and all(plan.probe(run, "gcl", seed).done for seed in run.recipe.compare.seeds)


def _pretrainings(run: Run) -> list[Stage]:
    return [plan.pretrain(run, "gcl", seed) for seed in run.recipe.compare.seeds]


@dataclass(frozen=True)
class Labels:
    """Labelled scores of the same settings, to tell how well the label-free measures agree with them."""

    source: str
    """What they are, in words."""
    score: Callable[[Cell], float | None]
    """Accuracy on validation tiles, from 0 to 1; None where a cell has none."""


def labels(runs: Path, with_labels: bool, study: str | None) -> Labels | None:
    """The labelled scores that were asked for: linear probes of the probes themselves, or of a finished study.

    Raises:
        UserError: both were asked for, or the study has no scores of these settings.
    """
    if with_labels and study:
        raise UserError("--with-labels scores the probes, --labels-from takes the scores of a study: give one of them")
    if study:
        return Labels(f"linear probes of the study {study}, on validation tiles", _of_study(runs / study))
    return Labels("linear probes of these backbones, on validation tiles", _own) if with_labels else None


def _own(cell: Cell) -> float:
    stages = [plan.probe(cell.run, "gcl", seed) for seed in cell.run.recipe.compare.seeds]
    return _mean([read_json(stage.path / "probes.json")["valid"] for stage in stages])


def _of_study(folder: Path) -> Callable[[Cell], float | None]:
    if not (folder / "results.json").is_file():
        raise UserError(f"--labels-from: {folder} has no results.json. Run that study first: gcl-custom study STUDY")
    results = read_json(folder / "results.json")
    axes = set(results.get("axes", ()))
    if axes != {MASK, RATE}:
        raise UserError(
            f"--labels-from: the axes of {folder} are {', '.join(sorted(axes)) or 'none'}; to match its cells they "
            f"must be {MASK} and {RATE}, and no others"
        )
    scored = [found for found in results["cells"] if found["scores"]]

    def score(cell: Cell) -> float | None:
        keys = [RATE, MASK] if plan.mixes_views(cell.run.recipe.pretrain) else [RATE]
        wanted = {key: label(cell.place[key]) for key in keys}
        fitting = [f["valid"]["mean"] for f in scored if wanted.items() <= f["place"].items()]
        return _mean(fitting) if fitting else None

    return score


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
