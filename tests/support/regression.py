"""A small training with whatever a resumed run could get wrong."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

from gcl_custom.pictures import grid
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batch
from gcl_custom.training.steps import Trainable
from gcl_custom.weights.state_dicts import load_weights

DATA = torch.arange(26 * 4, dtype=torch.float32).view(26, 4) / 50
HARDWARE = HardwareSettings(accelerator="cpu", precision="fp32")


def read(tiles: Tensor) -> Tensor:
    return DATA[tiles]


class Regression(Trainable):
    """Dropout, momentum and a schedule."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))
        self.killed_at = killed_at
        self.evaluate_every = 2

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = (self.net(batch.data + torch.randn_like(batch.data)) - batch.data.sum(1, keepdim=True)).square().mean()
        self.record({"loss": loss})
        return loss

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-2)

    def schedule(self, step: int) -> float:
        return 1 / (1 + step)

    def evaluate(self) -> dict[str, float]:
        return {"weight": float(self.net[0].weight.sum()), "noise": float(torch.rand(()))}

    def pictures(self) -> dict[str, Tensor]:
        return {"squares": grid([torch.rand(3, 3, 8, 8)])}


def stage_in(folder: Path) -> Stage:
    stage = Run(folder, Recipe(name="r", data=DataSettings(root="none"))).stage("regression", {"lr": 1e-2})
    stage.begin()
    return stage


def weights(folder: Path) -> Tensor:
    """The weights that a training in the folder saved, in a row."""
    net = Regression().net
    load_weights(folder / "regression" / "net.safetensors", net)
    return torch.cat([p.flatten() for p in net.parameters()])
