"""The entry point of the command line. Nothing heavy is imported before a stage begins."""

import multiprocessing
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Annotated, NoReturn

# Torch reads this when it starts. Idle threads that spin would slow other work down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from gcl_custom import __version__
from gcl_custom.cli import recipes
from gcl_custom.cli.commands import app
from gcl_custom.console import fail, say
from gcl_custom.errors import Stopped, UserError
from gcl_custom.launcher import Launch, launch
from gcl_custom.machine_faults import explained

app.add_typer(recipes.app, name="recipes")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        say(__version__)
        raise typer.Exit
    launch()


def main() -> None:
    """Run the command line. A UserError or a fault of the machine ends with one message and exit code 1.

    A signal ends it with 128 and its number.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if launched := launch():
            _together(launched)
        app()
    except UserError as error:
        _end(str(error))
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        _end(message)
    except Stopped as stopped:
        for process in multiprocessing.active_children():  # Python would wait for those that still train
            process.terminate()
        name = signal.Signals(stopped.signal).name
        say(f"stopped by {name}; what is finished is kept, and the same command does the rest")
        sys.exit(128 + stopped.signal)


def _together(launched: Launch) -> NoReturn:
    """The command in one of the processes of a launcher: the first one does it, and the others what it shares."""
    import_module("gcl_custom.training.quiet_lightning").hush()  # before torch is there
    team = import_module("gcl_custom.training.launched")  # here, since it needs torch
    team.join(launched)
    if launched.rank:
        sys.exit(team.follow())
    with team.leading():
        app()
    sys.exit()


def _end(message: str) -> NoReturn:
    try:
        fail(message)
    except OSError:  # the log is on the disk that is full
        print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
