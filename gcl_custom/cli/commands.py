"""The commands: each a verb, the run it works on, and the job it does. No logic."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from gcl_custom.cli import jobs
from gcl_custom.cli.options import (
    RUNS,
    ArmName,
    Folder,
    GivenRecipe,
    MaybeRecipe,
    Name,
    Overrides,
    Overwrite,
    Redo,
    Seed,
)
from gcl_custom.runs.run import Run, open_run
from gcl_custom.runs.study import commands, load_study, run_cells

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train a backbone on your own unlabelled imagery: a generator of your domain, generative views, "
    "contrastive pretraining, and a verdict against supervised training.",
    epilog="Start with: gcl-custom run quickstart",
)


@app.command()
def fit_generator(
    recipe: GivenRecipe, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Pack the tiles, then train the VQGAN and the label-free MaskGIT on them, or make a public generator ready."""
    jobs.work(recipe, run, set_, redo, runs, jobs.fit_generator, "gcl-custom pretrain --run {run}")


@app.command()
def make_views(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make the generative views, once for each training tile."""
    jobs.work(recipe, run, set_, redo, runs, jobs.make_views, "gcl-custom pretrain --run {run}")


@app.command()
def pretrain(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make the views that are missing, then pretrain the backbone on pairs of a real and a generated view."""
    jobs.work(recipe, run, set_, redo, runs, jobs.pretrain, "gcl-custom compare-supervised --run {run}")


@app.command()
def compare_supervised(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Pretrain the other seeds and arms, train the supervised baseline, and give the verdict."""
    jobs.work(recipe, run, set_, redo, runs, jobs.compare)


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

    def job(opened: Run) -> None:
        jobs.do("tiles", opened)
        jobs.do("evaluate", opened, backbone, finetune)
        jobs.do("report", opened)

    jobs.work(recipe, run, set_, redo, runs, job)


@app.command(name="run")
def run_all(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Everything: fit-generator, make-views, pretrain, compare-supervised, report."""
    jobs.work(recipe, run, set_, redo, runs, jobs.everything)


@app.command()
def check(recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, runs: Folder = RUNS) -> None:
    """Say what would happen: tiles found, bad files, shapes, time and disk. Trains nothing, writes nothing."""
    jobs.do("check", open_run(runs, recipe, run, set_ or ()))


@app.command()
def cost_benefit(
    recipe: MaybeRecipe = None,
    tiles: Annotated[int, typer.Option(min=4, help="Most tiles to measure on.")] = 512,
    run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Say what each augmentation of a recipe costs and how much it changes a tile. Needs a finished generator."""

    def job(opened: Run) -> None:
        jobs.do("cost_benefit", opened, tiles)
        jobs.do("report", opened)

    jobs.work(recipe, run, set_, redo, runs, job)


@app.command()
def report(run: Name = None, runs: Folder = RUNS) -> None:
    """Write the report of a run again, as one HTML page; a run that is not finished has one too."""
    jobs.work(None, run, None, False, runs, lambda opened: jobs.do("report", opened))


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
    run_cells(grid, cell, jobs.score_cell)
    import_module("gcl_custom.reporting.study_results").show_study(grid)


@app.command()
def embed(
    folder: Annotated[Path, typer.Argument(help="Folder of images, in folders of any depth.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, or .npy with a .csv beside it.")],
    run: Name = None, arm: ArmName = "gcl", seed: Seed = None, set_: Overrides = None, overwrite: Overwrite = False,
    runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Representations of a folder of images by a backbone of a run, with coordinates where the files have them."""
    jobs.do("embed", open_run(runs, None, run, set_ or ()), folder, out, arm, seed, overwrite)


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", help="timm, onnx or huggingface.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for huggingface a folder.")],
    run: Name = None, arm: ArmName = "gcl", seed: Seed = None, overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """A backbone of a run for other software, checked to give the same representations there."""
    jobs.do("export", open_run(runs, None, run), to, out, arm, seed, overwrite)
