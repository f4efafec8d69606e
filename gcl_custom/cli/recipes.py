"""The commands ``gcl-custom recipes``: list and copy what ships with the package, and print the reference of keys."""

from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gcl_custom import console
from gcl_custom.console import say
from gcl_custom.errors import UserError
from gcl_custom.files import write_text
from gcl_custom.recipe.file import load_recipe, shipped

app = typer.Typer(
    no_args_is_help=True, help="List and copy the shipped recipes; print the keys that a recipe may have."
)


@app.command("list")
def list_recipes() -> None:
    """List the shipped recipes and studies, each with its first line."""
    for kind, known in (("recipe", shipped("recipes")), ("study", shipped("recipes/studies"))):
        table = Table(kind, "what it is", box=None)
        for name, path in known.items():
            table.add_row(name, path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip())
        console.console.print(table)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.", show_default=False)],
    to: Annotated[
        Path | None, typer.Argument(metavar="TO", help="File to write; without it, NAME.yaml here.", show_default=False)
    ] = None,
) -> None:
    """Copy a shipped recipe, to make it your own. What its head says of the shipped data set is left out."""
    known = shipped("recipes")
    if name not in known:
        raise UserError(f"There is no shipped recipe {name!r}. There are: {', '.join(known)}")
    target = to or Path(f"{name}.yaml")
    if target.exists():
        raise UserError(f"{target} exists already. Give another name: gcl-custom recipes copy {name} OTHER.yaml")
    lines = known[name].read_text(encoding="utf-8").splitlines(keepends=True)
    body = "".join(dropwhile(lambda line: line.startswith("#") or not line.strip(), lines))
    write_text(target, f"# A copy of the shipped recipe {name}. Every key: gcl-custom recipes keys\n\n{body}")
    card = load_recipe(target).data.card
    out = f" and take out data.card, unless your images are those of the card {card}" if card else ""
    say(f"wrote {target}. Set data.root in it{out}. Then: gcl-custom check {target}")


@app.command()
def keys() -> None:
    """Print every key of a recipe with its bounds, default and meaning, as Markdown."""
    print(import_module("gcl_custom.recipe.reference").reference(), end="")
