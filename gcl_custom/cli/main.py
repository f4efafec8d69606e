"""The entry point of the command line. Nothing heavy is imported before a stage begins."""

import os
import sys
from typing import Annotated

# Read when torch starts: idle threads that spin slow other work down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer
from rich.markup import escape

from gcl_custom import __version__, console
from gcl_custom.cli import recipes
from gcl_custom.cli.commands import app
from gcl_custom.cli.weights import weights
from gcl_custom.console import say
from gcl_custom.errors import UserError

app.command()(weights)
app.add_typer(recipes.app, name="recipes")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        say(__version__)
        raise typer.Exit


def main() -> None:
    """What a user can mend ends in one message and exit code 1."""
    try:
        app()
    except UserError as error:
        console.console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        sys.exit(130)
