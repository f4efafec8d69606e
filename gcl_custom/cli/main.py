"""The entry point of the command line. Nothing heavy is imported before a stage begins."""

import multiprocessing
import os
import signal
import sys
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
from gcl_custom.machine_faults import explained

app.add_typer(recipes.app, name="recipes")


LAUNCHED = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID",
            "SLURM_NTASKS", "MASTER_PORT")  # fmt: skip
"""Variables by which launchers number processes; torch and Lightning read them as whole numbers."""


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        say(__version__)
        raise typer.Exit
    for name in LAUNCHED:
        if not (value := os.environ.get(name, "0")).isdecimal():
            raise UserError(f"The variable {name} is {value!r}, and should be a whole number. Type: unset {name}")


def main() -> None:
    """Run the command line. A UserError or a fault of the machine ends with one message and exit code 1.

    A signal ends it with 128 and its number.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
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


def _end(message: str) -> NoReturn:
    try:
        fail(message)
    except OSError:  # the log is on the disk that is full
        print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
