"""A loss or a gradient that is not finite stops the training; with a real method, see test_pretrain."""

from pathlib import Path

import pytest
import torch
from test_loop import HARDWARE, Regression, read, stage_in
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.loop import fit
from gcl_custom.training.nonfinite_steps import require_finite


def test_finite_values_pass(tmp_path: Path) -> None:
    for value in (0.0, -1e38, 1e-38):
        require_finite("loss", torch.tensor(value), 3, "stage", tmp_path / "last.ckpt")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_named_with_its_step(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^stage: the loss became {value} at step 3, so training stopped\. Lower"):
        require_finite("loss", torch.tensor(float(value)), 3, "stage", tmp_path / "last.ckpt")


def test_the_checkpoint_is_named_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"so training stopped\. The last good checkpoint is .*last\.ckpt\. "):
        require_finite("gradient", torch.tensor(float("inf")), 3, "stage", tmp_path / "last.ckpt")


def test_a_gradient_alone_stops_training_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Steep(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            # 0, with a slope of 0 times infinity
            return loss + self.net[0].weight.mul(0).sum().square().sqrt() if batch.step == 15 else loss

    stage = stage_in(tmp_path)
    with pytest.raises(UserError, match=r"the gradient became nan at step 15.*last good checkpoint.*learning rate"):
        fit(Steep(), Batches(torch.arange(26), 2, 7, read), stage,
            HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9}), epochs=5, seed=1)  # fmt: skip
    kept = torch.load(stage.path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
