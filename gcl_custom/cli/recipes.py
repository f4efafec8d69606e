"""The commands ``gcl-custom recipes``: what ships with the package, and the reference of keys."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gcl_custom import console
from gcl_custom.console import say
from gcl_custom.errors import UserError
from gcl_custom.recipe.file import load_recipe, shipped

app = typer.Typer(no_args_is_help=True, help="List and copy the recipes that ship with the package.")


@app.command("list")
def list_recipes() -> None:
    """The shipped recipes, each with its first line."""
    for kind, folder in (("recipe", "recipes"), ("study", "recipes/studies")):
        table = Table(kind, "what it is", box=None)
        for name, path in shipped(folder).items():  # type: ignore[arg-type]
            table.add_row(name, path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip())
        console.console.print(table)


@app.command()
def copy(
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


@app.command()
def keys() -> None:
    """Every key of a recipe, with its bounds, default and meaning, as a Markdown table."""
    print(import_module("gcl_custom.recipe.reference").reference(), end="")
