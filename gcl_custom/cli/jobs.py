"""The stages that each command does, in order. A stage's module is imported only when the stage begins."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.table import Table

from gcl_custom import console, threads
from gcl_custom.cli.open_run import opened
from gcl_custom.console import duration, say
from gcl_custom.errors import DoneMeanwhile, UserError
from gcl_custom.files import locked
from gcl_custom.imagery.collections.collection_names import is_there
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Record, Stage
from gcl_custom.weights.needed import licences

STAGES = {
    "beforehand": ("check.beforehand", "beforehand"),
    "backbone": ("pretraining.suitable", "require_suitable"),
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
    "init": ("check.init_recipe", "init_recipe"),
    "report": ("reporting.report", "report"),
    "study_results": ("reporting.study_results", "show_study"),
    "embed": ("export.embed", "embed"),
    "export": ("export.export", "export"),
    "push": ("export.push_tiles", "push_tiles"),
    "map": ("maps.map_scenes", "map_scenes"),
    "similar": ("maps.similar", "show_similar"),
    "weights": ("weights.list_weights", "list_weights"),
}
"""Stage -> its module and function. The stages of ``runs.plan`` have the same names here."""


def do(stage: str, *arguments: Any) -> None:
    """Do a stage with what it works on, mostly a run.

    Runs may share stages. If another process finishes this one first, its output is used.
    """
    module, function = STAGES[stage]
    work = getattr(import_module(f"gcl_custom.{module}"), function)
    threads.compute()
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
    run, start = opened(runs, recipe, name, overrides or (), redo), time.monotonic()
    otherwise = "use --run NEW_NAME" if recipe else "name another run"
    with locked(run.path, otherwise=otherwise), run.saved():
        say(f"run {run.path}")
        for line in licences(run.recipe):
            console.warn(line)
        before = {stage.name: stage.record for stage in plan.stages(run)}
        job(run)
    _summary(run, before, time.monotonic() - start, following)
    return run


def _begin(run: Run) -> None:
    """What comes before all else: is all there that the recipe names, is the backbone one for these tiles, are the
    tiles packed, have files changed?"""
    do("beforehand", run)
    do("backbone", run)
    do("tiles", run)


def fit_generator(run: Run) -> None:
    """Every stage that makes the generator ready."""
    if not arms.shows_generator(run.recipe):
        what, when = "this generator", "here"
        if arms.needs_generator(run.recipe):
            what, when = "what comes after the tokenizer", "once the tokenizer is done"
        console.warn(
            f"no pretraining of this recipe shows generative views, so none waits for {what}. To go on without it, "
            f"stop {when} and type: gcl-custom pretrain {run.options}"
        )
    _begin(run)
    _generator(run, plan.generator(run))


def _generator(run: Run, stages: Sequence[Stage]) -> None:
    """Stages of the generator, which begin with the tiles."""
    if not run.recipe.generator.trained:
        do("generator", run)
    for stage in stages[1:]:
        do(stage.name, run)


def make_views(run: Run) -> None:
    """The views and the reconstructions, even if no pretraining of the recipe shows them."""
    _begin(run)
    _views(run, asked=True)


def _views(run: Run, asked: bool = False) -> None:
    wanted, controls = asked or arms.needs_views(run.recipe), arms.needs_reconstructions(run.recipe)
    if run.redo and (wanted or controls) and any(stage.stale for stage in plan.generator(run)):
        _generator(run, plan.generator(run))  # such as one of tiles that were just packed anew
    if wanted:
        do("views", run)
    if controls:
        do("reconstructions", run)


def _inputs(run: Run) -> None:
    """What pretrainings of the recipe read beside the tiles."""
    _views(run)
    if run.recipe.pretrain.predicted:
        do("targets", run)


def before_pretraining(run: Run) -> str:
    """The command that comes after the generator or the views."""
    return f"gcl-custom pretrain {run.options}"


def after_pretraining(run: Run) -> str:
    """The command that comes after pretraining: the comparison, or where it lacks labels, a use of the backbone."""
    try:
        do("labels", run)
    except UserError:
        return use(run)
    return f"gcl-custom compare-supervised {run.options}"


def use(run: Run) -> str:
    """The command that uses the backbone on the run's own images."""
    root, out = Path(run.recipe.data.root), Path(f"{run.path.name}.parquet")
    if not is_there(root):
        return f"gcl-custom report {run.options}"
    words = ["embed", str(root), "--out", str(out), *(["--overwrite"] if out.exists() else [])]
    return f"gcl-custom {shlex.join(words)} {run.options}"


def pretrain(run: Run) -> None:
    """The recipe's own arm with the first seed."""
    _begin(run)
    _pretrain(run)


def _pretrain(run: Run) -> None:
    _inputs(run)
    do("pretrain", run, "gcl", run.recipe.compare.seeds[0])


def _pretrain_and_score(run: Run) -> None:
    """Every arm and seed, and their comparison. Missing labels are noticed before any time is spent."""
    do("labels", run)
    _inputs(run)
    for arm, seed in arms.pretrainings(run.recipe):
        do("pretrain", run, arm, seed)
    do("compare", run)


def compare(run: Run) -> None:
    """Every arm and seed, their comparison, and the report."""
    _begin(run)
    _pretrain_and_score(run)
    do("report", run)


def everything(run: Run) -> None:
    """All stages, from files to the report. Without labels there is no comparison."""
    _begin(run)
    labelled = bool(plan.tiles(run).facts["classes"])
    if labelled:
        do("labels", run)  # what is wrong with them is said before hours are spent
    if arms.needs_generator(run.recipe):
        _generator(run, plan.awaited(run))
    if not labelled or "gcl" not in run.recipe.compare.arms:  # otherwise the comparison begins with it
        _pretrain(run)
    if labelled:
        _pretrain_and_score(run)
    else:
        say("no labels: all that needs none is done, and the comparison left out")
    do("report", run)


def score_cell(run: Run) -> None:
    """All stages of a cell of a study. The study has one table for all cells, so a cell has no report."""
    _begin(run)
    do("labels", run)  # before the generator, as above
    if arms.needs_generator(run.recipe):
        _generator(run, plan.awaited(run))
    _pretrain_and_score(run)


def _summary(run: Run, before: Mapping[str, Record], seconds: float, following: Callable[[Run], str] | None) -> None:
    """What this command has done, where the report is, and the command that comes next.

    Args:
        before: the record of each stage when the command began.
    """
    table = Table("stage", "took", "outcome", title=f"{run.path}  ({duration(seconds)} now)", box=None)
    table.title_justify = "left"
    for stage in plan.stages(run):
        old, new = before.get(stage.name), stage.record
        if new is None or new == old:
            continue
        earlier = old["seconds"] if old and old.get("fingerprint") == new["fingerprint"] else 0.0
        table.add_row(stage.name, duration(new["seconds"] - earlier), _outcome(stage) if stage.done else "not finished")
    if table.row_count:
        console.console.print(table)
    report = run.path / "report.html"
    if report.exists():
        say(f"report: {report.resolve()}")
    if following:
        say(f"next:   {following(run)}")


SHOWN: Mapping[str, Callable[[float], str]] = {
    "psnr": "{:.1f} dB".format,
    "codes_used": "{:.0%} of the codes used".format,
    "gap": lambda gap: f"{abs(gap):.2f} nats {'below' if gap > 0 else 'above'} the marginal entropy",
    "changed_tokens": "{:.0%} of the tokens changed".format,
    "recognised": "{:.0%} of the tiles' content recognised".format,
    "knn": "kNN {:.0%} on validation tiles".format,
}
"""Fact of a stage -> how the summary shows it. The report has all of them."""


def _outcome(stage: Stage) -> str:
    """The few facts of a finished stage that say how it went."""
    facts = stage.facts
    if stage.name == "tiles":
        return ", ".join(f"{count:,} {split}" for split, count in facts["tiles"].items())
    return ", ".join(show(facts[name]) for name, show in SHOWN.items() if name in facts)
