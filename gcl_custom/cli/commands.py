"""The commands. Each opens what it works on and does a job of ``jobs``; there is no other logic."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gcl_custom.cli import jobs
from gcl_custom.cli.open_run import opened
from gcl_custom.cli.options import (
    RUNS,
    ArmName,
    Folder,
    GivenRecipe,
    KnownName,
    MaybeRecipe,
    Name,
    Overrides,
    Overwrite,
    Redo,
    Seed,
)
from gcl_custom.errors import UserError
from gcl_custom.runs.run import Run, open_run
from gcl_custom.runs.study import commands, load_study, run_cells

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train a backbone on your own unlabelled imagery: a generator of your domain, generative views, "
    "contrastive pretraining, and a verdict against supervised training.",
    epilog="Start with: gcl-custom run FOLDER, a folder of your images; or gcl-custom run quickstart",
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images, or an archive or the like.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Recipe to write; without it, the folder's name with .yaml, here.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, max=1e5, help="What all stages may take; without it, the usual steps.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look at images and write a recipe that fits them, with a reason for each choice, and a card of what was found."""
    jobs.do("init", folder, out, minutes, overwrite)


@app.command()
def fit_generator(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Pack the tiles, then train the VQGAN and the label-free MaskGIT on them, or prepare a public generator."""
    jobs.work(recipe, run, set_, redo, runs, jobs.fit_generator, jobs.before_pretraining)


@app.command()
def make_views(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make the generative views of every training tile."""
    jobs.work(recipe, run, set_, redo, runs, jobs.make_views, jobs.before_pretraining)


@app.command()
def pretrain(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS
) -> None:
    """Make missing views, then pretrain the backbone on pairs of a real and a generated view."""
    jobs.work(recipe, run, set_, redo, runs, jobs.pretrain, jobs.after_pretraining)


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
            help="A backbone to score, repeatable. SPEC: run:RUN, run:RUN/ARM, timm:NETWORK, untrained:NETWORK or "
            "FILE@NETWORK, with a file of weights or a trainer's checkpoint. Behind NETWORK may stand :small for a "
            "ResNet's small stem, :at=224 to enlarge tiles to 224 px, and, of a file, :normalised if its weights have "
            "seen normalised bands and :part=teacher for one of several networks.",
        ),
    ],
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
    finetune: Annotated[bool, typer.Option("--finetune", help="Also fine-tune, at the recipe's fractions.")] = False,
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
    """Do everything: fit-generator, make-views, pretrain, compare-supervised, report. On a folder of images this takes
    a shipped recipe that suits them. Without labels there is no comparison.
    """
    jobs.work(recipe, run, set_, redo, runs, jobs.everything, jobs.use)


@app.command()
def check(
    recipe: MaybeRecipe = None, run: Name = None, set_: Overrides = None, runs: Folder = RUNS,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="FILE", help="File of labels below data.root, as --set data.labels=FILE."),
    ] = None,
    map_: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="PNG file to draw a map of the splits into."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="HTML file to write with all of this and histograms.")
    ] = None,
) -> None:  # fmt: skip
    """Say what a recipe, or a first try on a folder, would do: tiles found, unusable files, shapes, time and disk.
    Trains nothing, and writes nothing but a map or a page that is asked for. Exit code 0 means that it would run.
    """
    given = (
        [] if labels is None else [f"data.labels={json.dumps(labels)}"]
    )  # a name is a text, whatever YAML makes of it
    jobs.do("check", opened(runs, recipe, run, [*(set_ or ()), *given]), map_, page)


@app.command()
def cost_benefit(
    recipe: MaybeRecipe = None,
    tiles: Annotated[int, typer.Option(min=4, help="Number of tiles to measure on, at most.")] = 512,
    run: Name = None, set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Measure what each augmentation costs and how much it changes a tile. Needs a finished generator."""

    def job(opened: Run) -> None:
        jobs.do("cost_benefit", opened, tiles)
        jobs.do("report", opened)

    jobs.work(recipe, run, set_, redo, runs, job)


@app.command()
def report(run: KnownName = None, runs: Folder = RUNS) -> None:
    """Write the report of a run again, as one HTML page. The run need not be finished."""
    jobs.work(None, run, None, False, runs, lambda opened: jobs.do("report", opened))


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")],
    cell: Annotated[str | None, typer.Option(help="Do only this cell, or run of a cell; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the command of each cell and do nothing.")] = False,
    set_: Overrides = None, redo: Redo = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Run a grid over a recipe's keys and end with a table and a plot. Work that cells share is done once."""
    grid = load_study(study, runs, set_ or (), redo)
    if list_:
        for command in commands(grid, study, set_ or (), runs):
            print(command)
        return
    run_cells(grid, cell, jobs.score_cell)
    jobs.do("study_results", grid)


@app.command()
def embed(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of images, in folders of any depth, or an archive.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, or .npy with a .csv beside it.")],
    run: KnownName = None, arm: ArmName = "gcl", seed: Seed = None, set_: Overrides = None,
    overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Write the representations of a folder of images, with coordinates where the files have them."""
    jobs.do("embed", open_run(runs, None, run, set_ or ()), folder, out, arm, seed, overwrite)


@app.command(name="map")
def map_(
    scenes: Annotated[list[Path], typer.Argument(metavar="SCENE...", help="Scenes, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the maps into.")],
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            help="Pixels of the scene from a window to the next one, the side of a map's cell; without it, half "
            "a window.",
        ),
    ] = None,
    components: Annotated[
        str, typer.Option("--components", metavar="NUMBER|all", help="Principal components to write.")
    ] = "3",
    table: Annotated[
        bool, typer.Option("--table/--no-table", help="Write a table of the windows and their representations.")
    ] = True,
    run: KnownName = None, arm: ArmName = "gcl", seed: Seed = None, overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Map whole scenes: principal components of the representations, and classes by the linear probe."""
    if components != "all" and not (components.isdecimal() and 0 < int(components) < 10**6):
        raise UserError(f"--components {components}: give a number from 1 on, or all")
    count = None if components == "all" else int(components)
    jobs.do("map", open_run(runs, None, run), scenes, out, arm, seed, stride, count, table, overwrite)


@app.command()
def similar(
    to: Annotated[
        str,
        typer.Option("--to", metavar="TILE|LON,LAT", help="A tile of the run, named as embed does, or degrees."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .png: the tile, then those most like it.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of tiles to find.")] = 11,
    run: KnownName = None, arm: ArmName = "gcl", seed: Seed = None, overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Find the tiles of a run that its backbone holds most like a given one, and show them."""
    jobs.do("similar", open_run(runs, None, run), to, out, arm, seed, count, overwrite)


@app.command()
def export(
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="timm, onnx, huggingface or torchgeo.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; for huggingface a folder.")],
    run: KnownName = None, arm: ArmName = "gcl", seed: Seed = None, overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Write a backbone for other software, checked to give the same representations there."""
    jobs.do("export", open_run(runs, None, run), to, out, arm, seed, overwrite)


@app.command()
def push(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where to, such as s3://BUCKET/PREFIX or file:///FOLDER.")
    ],
    run: KnownName = None,
    shard_mb: Annotated[float, typer.Option("--shard-mb", min=1e-3, help="Megabytes of a shard, at the most.")] = 256.0,
    overwrite: Overwrite = False, runs: Folder = RUNS,
) -> None:  # fmt: skip
    """Put the packed tiles of a run into object storage, in shards, for training on other machines (data.store)."""
    jobs.do("push", open_run(runs, None, run), address, shard_mb, overwrite)


@app.command()
def weights(
    recipe: GivenRecipe,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing to the place that the recipe names.")
    ] = False,
    sha: Annotated[bool, typer.Option("--sha", help="Also print the SHA-256 of each file.")] = False,
    set_: Overrides = None,
) -> None:
    """List the public weights that a recipe needs: where they belong, their licences, whether they are there."""
    jobs.do("weights", recipe, set_ or (), download, sha)
