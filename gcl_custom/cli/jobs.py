"""The stages that each command does, in order. A stage's module is imported only when the stage begins."""

import shlex
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from gcl_custom import console
from gcl_custom.console import duration, say
from gcl_custom.errors import DoneMeanwhile, UserError
from gcl_custom.files import locked
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run, open_run
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.needed import licences

STAGES = {
    "beforehand": ("check.beforehand", "beforehand"),
    "tiles": ("imagery.pack_tiles", "pack_tiles"),
    "tokenizer": ("generator.fit_tokenizer", "fit_tokenizer"),
    "tokens": ("generator.tokenise", "tokenise"),
    "maskgit": ("generator.fit_maskgit", "fit_maskgit"),
    "captions": ("generator.caption_tiles", "caption_tiles"),
    "latents": ("generator.invert_tiles", "invert_tiles"),
    "edit": ("generator.fit_edit", "fit_edit"),
    "generator": ("views.make_views", "try_generator"),
    "views": ("views.make_views", "make_views"),
    "reconstructions": ("views.make_views", "make_reconstructions"),
    "cost_benefit": ("views.cost_benefit", "measure_cost_benefit"),
    "targets": ("pretraining.make_targets", "make_targets"),
    "pretrain": ("pretraining.pretrain", "pretrain"),
    "labels": ("evaluation.scoring", "require_labels"),
    "compare": ("evaluation.compare_supervised", "compare_supervised"),
    "evaluate": ("evaluation.evaluate", "evaluate"),
    "check": ("check.check", "check"),
    "report": ("reporting.report", "report"),
    "study_results": ("reporting.study_results", "show_study"),
    "embed": ("export.embed", "embed"),
    "export": ("export.export", "export"),
    "weights": ("weights.list_weights", "list_weights"),
}
"""Stage -> its module and function. The stages of ``runs.plan`` have the same names here."""


def do(stage: str, *arguments: Any) -> None:
    """Do a stage with what it works on, mostly a run.

    Runs may share stages. If another process finishes this one first, its output is used.
    """
    module, function = STAGES[stage]
    work = getattr(import_module(f"gcl_custom.{module}"), function)
    while True:
        try:
            work(*arguments)
            return
        except DoneMeanwhile as done:
            say(str(done))


def work(
    recipe: str | None, name: str | None, overrides: list[str] | None, redo: bool, runs: Path,
    job: Callable[[Run], None], following: Callable[[Run], str] | None = None,
) -> Run:  # fmt: skip
    """Open the run, keep other processes out of it, do the job, and print a summary.

    Args:
        recipe, name, overrides, redo, runs: which run, as ``open_run`` takes them.
        job: what to do with it.
        following: gives the command that comes next, for the summary.

    Returns:
        The run.
    """
    run, start = open_run(runs, recipe, name, overrides or (), redo), time.monotonic()
    with locked(run.path), run.saved():
        say(f"run {run.path}")
        for line in licences(run.recipe):
            console.warn(line)
        job(run)
    _summary(run, time.monotonic() - start, following)
    return run


def _begin(run: Run) -> None:
    """What comes before all else: is all there that the recipe names, are the tiles packed, have files changed?"""
    do("beforehand", run)
    do("tiles", run)


def fit_generator(run: Run) -> None:
    """Every stage that makes the generator ready."""
    _begin(run)
    if not run.recipe.generator.trained:
        do("generator", run)
    for stage in plan.generator(run)[1:]:
        do(stage.name, run)


def make_views(run: Run) -> None:
    """The views and the reconstructions, even if no pretraining of the recipe shows them."""
    _begin(run)
    _views(run, asked=True)


def _views(run: Run, asked: bool) -> None:
    if asked or arms.needs_views(run.recipe):
        do("views", run)
    if arms.needs_reconstructions(run.recipe):
        do("reconstructions", run)


def before_pretraining(run: Run) -> str:
    """The command that comes after the generator or the views."""
    return f"gcl-custom pretrain {run.options}"


def after_pretraining(run: Run) -> str:
    """The command that comes after pretraining. A comparison needs labels; a use of the backbone does not."""
    try:
        do("labels", run)
    except UserError:
        names = (f"representations{number}.parquet" for number in ("", *range(2, 1000)))
        free = next(name for name in names if not Path(name).exists())  # embed overwrites nothing
        return f"gcl-custom embed {shlex.quote(run.recipe.data.root)} --out {free} {run.options}"
    return f"gcl-custom compare-supervised {run.options}"


def pretrain(run: Run) -> None:
    """The recipe's own arm with the first seed."""
    _begin(run)
    _views(run, asked=False)
    if run.recipe.pretrain.feature_targets:
        do("targets", run)
    do("pretrain", run, "gcl", run.recipe.compare.seeds[0])


def pretrain_and_score(run: Run) -> None:
    """Every arm and seed, and their comparison. Missing labels are noticed before any time is spent."""
    _begin(run)
    do("labels", run)
    _views(run, asked=False)
    if run.recipe.pretrain.feature_targets:
        do("targets", run)
    for arm, seed in arms.pretrainings(run.recipe):
        do("pretrain", run, arm, seed)
    do("compare", run)


def compare(run: Run) -> None:
    """Every arm and seed, their comparison, and the report."""
    pretrain_and_score(run)
    do("report", run)


def everything(run: Run) -> None:
    """All stages, from files to the report."""
    if arms.needs_generator(run.recipe):
        fit_generator(run)
    pretrain(run)
    compare(run)


def score_cell(run: Run) -> None:
    """All stages of a cell of a study. The study has one table for all cells, so a cell has no report."""
    if arms.needs_generator(run.recipe):
        fit_generator(run)
    pretrain_and_score(run)


def _summary(run: Run, seconds: float, following: Callable[[Run], str] | None) -> None:
    table = Table(
        "stage", "took", "made", title=f"{run.path}  ({duration(seconds)} now)", title_justify="left", box=None
    )
    for stage in plan.stages(run):
        if not stage.path.is_dir():
            continue
        state = _made(stage) if stage.done else Text("not finished", "dim")
        table.add_row(stage.name, duration(stage.seconds), state)
    console.console.print(table)
    report = run.path / "report.html"
    if report.exists():
        say(f"report: {report.resolve()}")
    if following:
        say(f"next:   {following(run)}")


def _made(stage: Stage) -> str:
    facts = {name: value for name, value in stage.facts.items() if isinstance(value, int | float)}
    return "  ".join(f"{name} {value:.4g}" for name, value in facts.items())
