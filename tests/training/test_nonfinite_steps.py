"""A loss or a gradient that is not finite stops the training; with a training, see test_loop."""

from pathlib import Path

import pytest
import torch

from gcl_custom.errors import UserError
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
