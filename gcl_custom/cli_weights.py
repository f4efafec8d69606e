"""The command ``gcl-custom weights``; its stage is imported when it runs."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from gcl_custom.errors import UserError

STAGE = "gcl_custom.list_weights"


def weights(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="A recipe file, or the name of a shipped recipe.", show_default=False),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing to where the recipe names it.")
    ] = False,
    sha: Annotated[bool, typer.Option("--sha", help="Print the SHA-256 of each file, too.")] = False,
    convert: Annotated[
        Path | None,
        typer.Option("--convert", metavar="FILE", help="Take the tensors out of a pickle that holds more than those."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="What to convert: the state under this key of the file, or all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to convert to; without it, FILE with the ending .safetensors.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
) -> None:
    """The public weights that a recipe takes: where they belong, their licences, whether they are there."""
    if convert is not None:
        if recipe is not None or download or sha or set_:
            raise UserError("--convert works on one file: leave the recipe and its options out")
        import_module(STAGE).run_conversion(convert, out, key)
    elif recipe is None:
        raise UserError(
            "Give a recipe, or a file to convert: gcl-custom weights RECIPE, gcl-custom weights --convert FILE"
        )
    elif out is not None or key is not None:
        raise UserError("--out and --key belong to --convert")
    else:
        import_module(STAGE).run(recipe, set_ or [], download, sha)
