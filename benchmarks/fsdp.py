"""What each process of a training of MaskGIT holds in memory: with DDP, and with FSDP on two and four processes.

    python -m benchmarks.fsdp

The network is the default one, of 41 million parameters, in processes of this machine's CPU under gloo. Each takes two
steps, then gives freed memory back to the system. What it holds is its private memory beyond that before the training:
weights, gradients, AdamW's moments and both averages.
"""

import copy
import ctypes
import gc
import tempfile
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from benchmarks.memory_of import private
from benchmarks.record import Row
from gcl_custom.files import read_json, write_json
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.recipe.generator import MaskGITSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.batches import Batch
from gcl_custom.training.fsdp import Large
from gcl_custom.training.steps import Steps, Trainable

CODES, SIDE, STEPS = 1024, 16, 2
SHARED = (2, 4)
"""Numbers of processes with FSDP."""


class Training(Trainable):
    """As ``MaskGITTraining``, on random tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MaskGIT(CODES, SIDE, MaskGITSettings())
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.kept = copy.deepcopy(self.average)

    def large(self) -> Large:
        return Large(self.net, (self.average, self.kept), self.average)

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), 1e-4)

    def schedule(self, step: int) -> float:
        return 1.0

    def training_step(self, batch: Batch) -> Tensor:
        return self.net.loss(batch.data, torch.rand(batch.data.shape) < 0.5)

    def clip(self) -> None:
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)


def _hold(fabric: Fabric, hardware: HardwareSettings, folder: Path) -> None:
    """Train, and write how many bytes for each parameter this process holds then."""
    torch.set_num_threads(1)
    before, training = private(), Training()
    parameters = sum(weight.numel() for weight in training.net.parameters())
    steps = Steps(training, fabric, hardware, "maskgit")
    for step in range(STEPS):
        tokens = torch.randint(CODES, (1, SIDE, SIDE))
        steps.take(Batch(step, torch.zeros(1, dtype=torch.long), tokens))
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
        trim(0)
    write_json(folder / f"{fabric.global_rank}.json", (private() - before) / parameters)


def held(count: int, **hardware: str) -> float:
    """Bytes for each parameter, in the process that holds the most."""
    settings = HardwareSettings.model_validate({"accelerator": "cpu", "precision": "fp32", **hardware})
    strategy = DDPStrategy(start_method="fork")
    fabric = Fabric(accelerator="cpu", devices=count, strategy=strategy, plugins=[LightningEnvironment()])
    with tempfile.TemporaryDirectory() as folder:
        fabric.launch(_hold, settings, Path(folder))  # type: ignore[arg-type]
        return max(read_json(path) for path in Path(folder).iterdir())


def rows() -> list[Row]:
    """A row for each number of processes with FSDP, against DDP with two."""
    whole = held(2)
    found = []
    for count in SHARED:
        part = held(count, strategy="fsdp")
        detail = f"{whole:.1f} -> {part:.1f} bytes a parameter in the process that holds the most"
        name = f"memory of MaskGIT's training, FSDP on {count} processes against DDP"
        found.append(Row(name=name, ratio=whole / part, target=None, detail=detail))
    return found


if __name__ == "__main__":
    for line in rows():
        print(f"{line['name']}: {line['ratio']:.2f} times less. {line['detail']}", flush=True)
