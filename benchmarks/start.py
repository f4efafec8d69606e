"""What commands cost before they do anything: processor seconds to the first training step, and of short commands.

    python -m benchmarks.start [ROUNDS]

Each command runs in a process of its own with one thread; user and system time from the process's start count, so other
load on the machine matters little. ``pretrain`` ends when its first training step would begin: its run is the
quickstart with few tiles, whose views are made beforehand. Fabric imports torchmetrics wherever that is installed, as
it is for the tests; so the start is also measured as it is without the packages of the tests.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Row

GOAL = 8.0
"""Processor seconds to the first training step."""
SHORT = (
    *("data.synthetic.tiles=128", "generator.tokenizer.epochs=1", "generator.maskgit.epochs=1"),
    *("views.decoding_steps=2",),
)
OF_TESTS = ("lightning", "pytorch_lightning", "torchmetrics", "lightly", "transformers", "diffusers")
"""Packages that ``pip install gcl-custom`` does not bring."""
COMMAND_LINE = """
import atexit, os, sys
def end(spent=os.times):
    print("spent", spent().user + spent().system)
atexit.register(end)
"""
FIRST_STEP = """
from gcl_custom.training.steps import Steps
def take(steps, batch):
    sys.exit()
Steps.take = take
"""
RUN = """
from gcl_custom.cli.main import main
main()
"""


def processor_seconds(words: Sequence[str], folder: Path, before: str = "") -> float:
    """User and system time of a command, up to its end or to where the code ``before`` ends it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE + before + RUN, *words],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"gcl-custom {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return float(done.stdout.rsplit("spent", 1)[1])


def measured(rounds: int = 3) -> dict[str, float]:
    """Median processor seconds of each command, called in turn."""
    hidden = f"sys.modules.update(dict.fromkeys({OF_TESTS}))\n"  # so that importing them fails
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = [word for key in SHORT for word in ("--set", key)]
        for command in ("fit-generator", "make-views"):
            processor_seconds([command, "quickstart", *options], folder)
        commands = {
            "pretrain, to its first step": (["pretrain"], FIRST_STEP),
            "pretrain, to its first step, without the tests' packages": (["pretrain"], hidden + FIRST_STEP),
            "--help": (["--help"], ""),
            "recipes list": (["recipes", "list"], ""),
            "check, a folder of images": (["check", "data/quickstart-scenes"], ""),
            "report": (["report"], ""),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, (words, before) in commands.items():
                taken[name].append(processor_seconds(words, folder, before))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def rows(rounds: int = 3) -> list[Row]:
    """Processor seconds of each command; those to the first step have a goal."""
    detail = f"user and system time on one thread, median of {rounds}"
    return [
        Row(name=name, ratio=seconds, target=GOAL if "first step" in name else None, detail=detail, unit="s", most=True)
        for name, seconds in measured(rounds).items()
    ]


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        print(f"{row['name']}: {row['ratio']:.2f} s of processor time (goal {row['target'] or 'none'})")
