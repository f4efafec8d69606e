"""The command line in a process of its own, as a user types it, and a recipe that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("gcl-custom"))]

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
    """Type a command in a folder, with further variables of the environment; ``check`` wants it to succeed."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment(**variables), capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
