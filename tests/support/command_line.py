"""The command line in a process of its own, as a user types it, and a recipe that takes seconds."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("gcl-custom"))]
NOWHERE = Path(os.devnull)
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(
    [
        "gcl_custom.check.check",
        "gcl_custom.evaluation.compare_supervised",
        "gcl_custom.export.embed",
        "gcl_custom.generator.fit_maskgit",
        "gcl_custom.generator.fit_tokenizer",
        "gcl_custom.pretraining.pretrain",
        "gcl_custom.reporting.report",
        "gcl_custom.views.make_views",
    ]
)

TINY = """
data:
  root: scenes
  card: quickstart-scenes
  size: 32
  synthetic: {tiles: 150, pixels: 32}
generator:
  tokenizer: {epochs: 3, batch: 21, codes: 16, channels: 16, blocks: 1, pixels_per_token: 8, code_width: 8,
              perceptual: {name: none}}
  maskgit: {epochs: 4, batch: 21, width: 32, depth: 1, heads: 2}
views: {decoding_steps: 3, batch: 16}
pretrain:
  backbone: resnet10t
  stem: small
  epochs: 2
  batch: 21
  optimizer: {name: adamw, learning_rate: 1e-3}
  method: {projector: [32, 32]}
  probe_every: 1
compare:
  seeds: [0]
  arms: [gcl, reconstructed, supervised]
  fractions: [0.5]
  shots: [2]
  draws: 2
  penalties: [1e-2]
  learning_rates: [1e-3]
  finetune_steps: 3
  supervised_epochs: 1
  batch: 16
hardware: {precision: fp32, accelerator: cpu, checkpoint_minutes: 1e-9}
"""


def environment(**variables: str) -> dict[str, str]:
    """That of a command: small computations on one thread, and further variables."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COLUMNS": "200"} | variables


def gcl_custom(folder: Path, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type a command in a folder, with further variables of the environment; ``check`` wants it to succeed.

    Its process is a copy of one that has imported all that commands need, which is most of what a short one takes.
    With further variables, which may be read when something is imported, it begins from nothing.
    """
    if variables:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=folder, env=environment(**variables), capture_output=True, text=True
        )
    else:
        with tempfile.TemporaryDirectory() as kept:
            out, error = (Path(kept) / name for name in ("out", "err"))
            process = started(folder, *arguments, out=out, error=error)
            process.join()
            assert process.exitcode is not None
            words = [*COMMAND, *arguments]
            done = subprocess.CompletedProcess(words, process.exitcode, out.read_text(), error.read_text())
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def started(folder: Path, *arguments: str, out: Path = NOWHERE, error: Path = NOWHERE) -> BaseProcess:
    """A command that has begun in such a process, and the files that it writes to."""
    process = WARM.Process(target=_typed, args=(folder, arguments, environment(), out, error))
    process.start()
    return process


def _typed(folder: Path, arguments: Sequence[str], variables: Mapping[str, str], *files: Path) -> None:
    from gcl_custom.cli.main import main

    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["gcl-custom", *arguments]
    main()
