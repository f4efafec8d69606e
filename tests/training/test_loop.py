import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.pictures import grid
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.loop import Trainable, fit
from gcl_custom.weights.state_dicts import load_weights, save_weights

DATA = torch.arange(26 * 4, dtype=torch.float32).view(26, 4) / 50


HARDWARE = HardwareSettings(accelerator="cpu", precision="fp32")


def read(tiles: Tensor) -> Tensor:
    return DATA[tiles]


class Regression(Trainable):
    """Dropout, momentum and a schedule: whatever a resumed run could get wrong."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))
        self.killed_at = killed_at
        self.evaluate_every = 2

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch.step == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = (self.net(batch.data + torch.randn_like(batch.data)) - batch.data.sum(1, keepdim=True)).square().mean()
        self.record({"loss": loss})
        return loss

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def evaluate(self) -> dict[str, float]:
        return {"weight": float(self.net[0].weight.sum()), "noise": float(torch.rand(()))}

    def pictures(self) -> dict[str, Tensor]:
        return {"squares": grid([torch.rand(3, 3, 8, 8)])}


def stage_in(folder: Path) -> Stage:
    stage = Run(folder, Recipe(name="r", data=DataSettings(root="none"))).stage("regression", {"lr": 1e-2})
    stage.begin()
    return stage


def train(
    folder: Path,
    killed_at: int | None = None,
    minutes: float = 1e-9,
    devices: int = 1,
    kind: type[Regression] = Regression,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    stage = stage_in(folder)
    module = kind(killed_at)
    hardware = HARDWARE.model_copy(update={"checkpoint_minutes": minutes, "devices": devices})
    fit(module, Batches(torch.arange(26), 2, 7, read), stage, hardware, 5, 1)
    save_weights(stage.path / "net.safetensors", module.net)


def weights(folder: Path) -> Tensor:
    net = Regression().net
    load_weights(folder / "regression" / "net.safetensors", net)
    return torch.cat([p.flatten() for p in net.parameters()])


@pytest.mark.parametrize("killed_at", [0, 13, 17, 31, 64])
@pytest.mark.parametrize("minutes", [1e-9, 100.0], ids=["checkpoints every 10 steps", "checkpoints at evaluations"])
def test_killed_and_resumed_equals_undisturbed(tmp_path: Path, killed_at: int, minutes: float) -> None:
    train(tmp_path / "whole")
    process = multiprocessing.get_context("fork").Process(target=train, args=(tmp_path / "killed", killed_at, minutes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(tmp_path / "killed", None, minutes)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    histories = [
        json.loads((tmp_path / run / "regression" / "history.json").read_text()) for run in ("whole", "killed")
    ]
    assert [row["epoch"] for row in histories[1]] == [1, 2, 3, 4, 5]
    assert histories[0] == histories[1]


def test_pictures_are_kept(tmp_path: Path) -> None:
    train(tmp_path)
    assert sorted(p.name for p in (tmp_path / "regression" / "pictures").iterdir()) == [
        "squares-00002.png", "squares-00004.png", "squares-00005.png",
    ]  # fmt: skip


class Plain(Regression):
    """Without noise and dropout, so that the mean gradient of two halves is the gradient of the whole batch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.net[1].p = 0.0
        loss = (self.net(batch.data) - batch.data.sum(1, keepdim=True)).square().mean()
        self.record({"loss": loss})
        return loss


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    for devices in (1, 2):
        train(tmp_path / str(devices), devices=devices, kind=Plain)
    torch.testing.assert_close(weights(tmp_path / "1"), weights(tmp_path / "2"), rtol=1e-4, atol=1e-6)
    losses = [
        [row["loss"] for row in json.loads((tmp_path / run / "regression" / "history.json").read_text())]
        for run in "12"
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    train(tmp_path)
    before = weights(tmp_path)
    train(tmp_path, killed_at=0)
    assert torch.equal(weights(tmp_path), before)
