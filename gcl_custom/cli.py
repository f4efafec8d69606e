"""The command line: a verb, the run it works on, and the stages it calls. No logic, and nothing heavy at import."""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

# Read when torch starts: idle threads that spin slow other work down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer
from rich.markup import escape
from rich.table import Table

from gcl_custom import __version__, console, plan
from gcl_custom.cli_weights import weights
from gcl_custom.console import duration, say
from gcl_custom.errors import DoneMeanwhile, UserError
from gcl_custom.files import locked
from gcl_custom.public_weights import licences
from gcl_custom.recipe_file import load_recipe, shipped
from gcl_custom.runs import Run, Stage, open_run
from gcl_custom.study import commands, load_study, run_cells

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train a backbone on your own unlabelled imagery: a generator of your domain, generative views, "
    "contrastive pretraining, and a verdict against supervised training.",
    epilog="Start with: gcl-custom run quickstart",
)
recipes_app = typer.Typer(no_args_is_help=True, help="List and copy the recipes that ship with the package.")
app.add_typer(recipes_app, name="recipes")

GivenRecipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")]
MaybeRecipe = Annotated[
    str | None,
    typer.Argument(metavar="[RECIPE]", help="A recipe; without it, the recipe of the run.", show_default=False),
]
Name = Annotated[str | None, typer.Option("--run", help="Name of the run; without it the recipe's, or the latest run.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
]
Redo = Annotated[bool, typer.Option("--redo", help="Replace output that was made from other settings.")]
ArmName = Annotated[str, typer.Option("--arm", help="Arm of the comparison that pretrained the backbone.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of the pretraining; without it the first of compare.seeds.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Folder = Annotated[Path, typer.Option("--runs", help="Folder of all runs.", envvar="GCL_CUSTOM_RUNS")]

RUNS = Path("runs")
MODULES = {
    "tokenizer": "fit_tokenizer", "tokens": "tokenise", "maskgit": "fit_maskgit", "captions": "caption",
    "latents": "invert_tiles", "edit": "fit_edit",
}  # fmt: skip
"""Where the stages of a generator are."""


def _work(
    recipe: str | None, name: str | None, overrides: list[str] | None, redo: bool, runs: Path,
    job: Callable[[Run], None], following: str,
) -> None:  # fmt: skip
    """Open the run, keep others out, do the job, and say how it ended and what comes next."""
    run, start = open_run(runs, recipe, name, overrides or (), redo), time.monotonic()
    with locked(run.path), run.saved():
        say(f"run {run.path}")
        for line in licences(run.recipe):
            console.warn(line)
        job(run)
    _summary(run, time.monotonic() - start, following)


def _stage(module: str, function: str = "run", *arguments: Any) -> Callable[[Run], None]:
    """A stage's function, imported only when it is called."""

    def call(run: Run) -> None:
        while True:
            try:
                getattr(import_module(f"gcl_custom.{module}"), function)(run, *arguments)
                return
            except DoneMeanwhile as done:
                say(str(done))

    return call


def _fit_generator(run: Run) -> None:
    _stage("pack_tiles")(run)  # notices files that have changed since
    if not run.recipe.has_tokens:
        _stage("make_views", "try_generator")(run)
    for stage in plan.generator(run)[1:]:
        _stage(MODULES[stage.name])(run)


def _make_views(run: Run, asked: bool = True) -> None:
    _stage("pack_tiles")(run)  # notices files that have changed since
    if asked or plan.needs_views(run.recipe):
        _stage("make_views")(run)
    if plan.needs_reconstructions(run.recipe):
        _stage("make_views", "run_reconstructions")(run)


def _pretrain(run: Run) -> None:
    _make_views(run, asked=False)
    _stage("pretrain", "run", "gcl", run.recipe.compare.seeds[0])(run)


def _pretrain_and_score(run: Run) -> None:
    _stage("pack_tiles")(run)
    _stage("scoring", "require_labels")(run)
    _make_views(run, asked=False)
    for arm, seed in plan.pretrainings(run.recipe):
        _stage("pretrain", "run", arm, seed)(run)
    _stage("compare_supervised")(run)


def _compare(run: Run) -> None:
    _pretrain_and_score(run)
    _stage("report")(run)


def _everything(run: Run) -> None:
    if plan.needs_generator(run.recipe):
        _fit_generator(run)
    _pretrain(run)
    _compare(run)


def _score_cell(run: Run) -> None:
    if plan.needs_generator(run.recipe):
        _fit_generator(run)
    _pretrain_and_score(run)


def _summary(run: Run, seconds: float, following: str) -> None:
    table = Table(
        "stage", "took", "made", title=f"{run.path}  ({duration(seconds)} now)", title_justify="left", box=None
    )
    for stage in plan.stages(run):
        if not stage.path.is_dir():
            continue
        state = _made(stage) if stage.done else "[dim]not finished[/]"
        table.add_row(stage.name, duration(stage.seconds), state)
    console.console.print(table)
    report = run.path / "report.html"
    if report.exists():
        say(f"report: {report.resolve()}")
    if following:
        say(f"next:   {following.format(run=run.path.name)}")


def _made(stage: Stage) -> str:
    facts = {name: value for name, value in stage.facts.items() if isinstance(value, int | float)}
    return "  ".join(f"{name} {value:.4g}" for name, value in facts.items())


@app.command()
def fit_generator(
    recipe: GivenRecipe, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Pack the tiles, then train the VQGAN and the label-free MaskGIT on them, or make a public generator ready."""
    _work(recipe, run, set_, redo, runs, _fit_generator, "gcl-custom pretrain --run {run}")


@app.command()
def make_views(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make the generative views, once for each training tile."""
    _work(recipe, run, set_, redo, runs, _make_views, "gcl-custom pretrain --run {run}")


@app.command()
def pretrain(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make the views that are missing, then pretrain the backbone on pairs of a real and a generated view."""
    _work(recipe, run, set_, redo, runs, _pretrain, "gcl-custom compare-supervised --run {run}")


@app.command()
def compare_supervised(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Pretrain the other seeds and arms, train the supervised baseline, and give the verdict."""
    _work(recipe, run, set_, redo, runs, _compare, "")


@app.command()
def evaluate(
    backbone: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SPEC",
            help="A backbone to score, repeatable. SPEC: run:RUN[/ARM], timm:NETWORK, untrained:NETWORK, "
            "FILE.safetensors@NETWORK or FILE.pth@NETWORK. Behind NETWORK may stand :small for a ResNet's small stem, "
            "and of a file :normalised for weights that have seen normalised bands.",
        ),
    ],
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
    finetune: Annotated[bool, typer.Option("--finetune", help="Fine-tune, too, at the recipe's fractions.")] = False,
) -> None:  # fmt: skip
    """Score backbones of other runs, of timm or of files on a recipe's tiles: linear probe, kNN, fine-tuning."""

    def job(run: Run) -> None:
        _stage("pack_tiles")(run)
        _stage("evaluate", "run", backbone, finetune)(run)
        _stage("report")(run)

    _work(recipe, run, set_, redo, runs, job, "")


@app.command(name="run")
def run_all(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Everything: fit-generator, make-views, pretrain, compare-supervised, report."""
    _work(recipe, run, set_, redo, runs, _everything, "")


@app.command()
def check(recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, runs: Folder = RUNS) -> None:
    """Say what would happen: tiles found, bad files, shapes, time and disk. Trains nothing, writes nothing."""
    _stage("check")(open_run(runs, recipe, run, set_ or ()))


app.command()(weights)


@app.command()
def cost_benefit(
    recipe: MaybeRecipe = None,
    tiles: Annotated[int, typer.Option(min=4, help="Most tiles to measure on.")] = 512,
    run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Say what each augmentation of a recipe costs and how much it changes a tile. Needs a finished generator."""

    def job(opened: Run) -> None:
        _stage("cost_benefit", "run", tiles)(opened)
        _stage("report")(opened)

    _work(recipe, run, set_, redo, runs, job, "")


@app.command()
def report(run: Name = None, runs: Folder = RUNS) -> None:
    """Write the report of a run again, as one HTML page; a run that is not finished has one too."""
    _work(None, run, None, False, runs, _stage("report"), "")


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")],
    cell: Annotated[str | None, typer.Option(help="Do this cell alone, for a scheduler; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the command of each cell and do nothing.")] = False,
    set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Run a grid over a recipe's keys, what cells have in common only once, and end with a table and a plot."""
    grid = load_study(study, runs, set_ or (), redo)
    if list_:
        for command in commands(grid, study, set_ or (), runs):
            print(command)
        return
    run_cells(grid, cell, _score_cell)
    import_module("gcl_custom.study_results").run(grid)


@app.command()
def embed(
    folder: Annotated[Path, typer.Argument(help="Folder of images, in folders of any depth.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, or .npy with a .csv beside it.")],
    run: Name = None, arm: ArmName = "gcl", seed: Seed = None, set_: Overrides = None, overwrite: Overwrite = False,
    runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Representations of a folder of images by a backbone of a run, with coordinates where the files have them."""
    _stage("embed", "run", folder, out, arm, seed, overwrite)(open_run(runs, None, run, set_ or ()))


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", help="timm, onnx or huggingface.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for huggingface a folder.")],
    run: Name = None, arm: ArmName = "gcl", seed: Seed = None, overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """A backbone of a run for other software, checked to give the same representations there."""
    _stage("export", "run", to, out, arm, seed, overwrite)(open_run(runs, None, run))


@recipes_app.command("list")
def recipes_list() -> None:
    """The shipped recipes, each with its first line."""
    for kind, folder in (("recipe", "recipes"), ("study", "recipes/studies")):
        table = Table(kind, "what it is", box=None)
        for name, path in shipped(folder).items():  # type: ignore[arg-type]
            table.add_row(name, path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip())
        console.console.print(table)


@recipes_app.command("copy")
def recipes_copy(
    name: str, to: Annotated[Path | None, typer.Argument(help="File to write; without it, NAME.yaml here.")] = None
) -> None:
    """Copy a shipped recipe, to make it your own."""
    known = shipped("recipes")
    if name not in known:
        raise UserError(f"There is no shipped recipe {name!r}. There are: {', '.join(known)}")
    target = to or Path(f"{name}.yaml")
    if target.exists():
        raise UserError(f"{target} exists already. Give another name: gcl-custom recipes copy {name} OTHER.yaml")
    target.write_text(known[name].read_text(encoding="utf-8"), encoding="utf-8")
    load_recipe(target)
    say(f"wrote {target}. Set data.root in it, then: gcl-custom check {target}")


@recipes_app.command("keys")
def recipes_keys() -> None:
    """Every key of a recipe, with its bounds, default and meaning, as a Markdown table."""
    print(import_module("gcl_custom.reference").reference(), end="")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        say(__version__)
        raise typer.Exit


def main() -> None:
    """The entry point: what a user can mend ends in one message and exit code 1."""
    try:
        app()
    except UserError as error:
        console.console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        sys.exit(130)
