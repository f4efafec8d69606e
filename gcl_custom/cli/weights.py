"""The command ``gcl-custom weights``; its stage is imported when it runs."""

from importlib import import_module
from typing import Annotated

import typer

STAGE = "gcl_custom.weights.list_weights"


def weights(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.", show_default=False)],
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing to where the recipe names it.")
    ] = False,
    sha: Annotated[bool, typer.Option("--sha", help="Print the SHA-256 of each file, too.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
) -> None:
    """The public weights that a recipe takes: where they belong, their licences, whether they are there."""
    import_module(STAGE).run(recipe, set_ or [], download, sha)
