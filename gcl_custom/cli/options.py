"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from gcl_custom.runs.run import RUNS as RUNS  # the default of --runs

GivenRecipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")]
MaybeRecipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, the name of a shipped one, or a folder of images (or an archive, a "
        "Parquet file or a stack of them); without it, the run goes on with the "
        "recipe it keeps.",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--run", help="Name of the run; without it, the recipe's or the folder's name, or the latest run."),
]
KnownName = Annotated[str | None, typer.Option("--run", help="Name of the run; without it, the latest run.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
]
Redo = Annotated[bool, typer.Option("--redo", help="Replace output that was made from other settings.")]
ArmName = Annotated[str, typer.Option("--arm", help="Arm of the comparison that pretrained the backbone.")]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of the pretraining; without it, the first of compare.seeds.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Folder = Annotated[Path, typer.Option("--runs", help="Folder of all runs.", envvar="GCL_CUSTOM_RUNS")]
