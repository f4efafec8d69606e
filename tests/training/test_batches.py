import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.pictures import grid
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.loop import Trainable, fit

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


def test_batches_cover_an_epoch_once_and_epochs_differ() -> None:
    batches = Batches(torch.arange(100, 126), 4, 0, read=lambda tiles: tiles * 2)
    first, second = list(batches), list(batches)
    assert len(batches) == len(first) == 6
    assert [batch.step for batch in first + second] == list(range(12))
    seen = torch.cat([batch.tiles for batch in first])
    assert len(seen.unique()) == 24
    assert set(seen.tolist()) <= set(range(100, 126))
    assert not torch.equal(seen, torch.cat([batch.tiles for batch in second]))
    assert all(torch.equal(batch.data, batch.tiles * 2) for batch in first)


def test_batches_go_on_in_mid_epoch() -> None:
    whole, resumed = (Batches(torch.arange(26), 4, 5, read=lambda tiles: tiles) for _ in range(2))
    expected = [batch.tiles for _ in range(2) for batch in whole]
    resumed.step = 4
    found = [batch.tiles for _ in range(2) for batch in resumed]
    assert all(torch.equal(a, b) for a, b in zip(found, expected[4:], strict=True))


def test_not_a_number_stops_training_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Exploding(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (float("nan") if batch.step == 15 else 1)

    stage = stage_in(tmp_path)
    with pytest.raises(UserError, match=r"loss became nan at step 15.*last good checkpoint.*learning rate"):
        fit(Exploding(), Batches(torch.arange(26), 2, 7, read), stage,
            HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9}), epochs=5, seed=1)  # fmt: skip
    kept = torch.load(stage.path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
