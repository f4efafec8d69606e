"""One step: its order, its learning rate, and what is left where it is not finite."""

from pathlib import Path

import pytest
import torch
from regression import HARDWARE, Regression, read
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.batches import Batch
from gcl_custom.training.engine import engine
from gcl_custom.training.steps import Steps, require_finite


def batch_of(step: int) -> Batch:
    tiles = torch.arange(4)
    return Batch(step, tiles, read(tiles))


def steps_of(module: Regression, hardware: HardwareSettings = HARDWARE) -> Steps:
    return Steps(module, engine(hardware), hardware, "regression")


def test_a_step_is_torchs_own_with_the_learning_rate_of_its_number() -> None:
    ours, theirs = Regression(), Regression()
    theirs.load_state_dict(ours.state_dict())
    steps, optimizer = steps_of(ours), torch.optim.AdamW(theirs.parameters())
    for step in (0, 1, 7):
        torch.manual_seed(step)
        steps.take(batch_of(step))
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        optimizer.zero_grad()
        theirs.training_step(batch_of(step)).backward()
        optimizer.step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_gradients_are_cut_before_the_optimizers_step_and_followers_move_after_it() -> None:
    seen: list[str] = []

    class Watched(Regression):
        def clip(self) -> None:
            assert all(weight.grad is not None for weight in self.parameters())
            seen.append("clip")
            nn.utils.clip_grad_norm_(self.parameters(), 0.0)

        def follow(self) -> None:
            seen.append("follow")

        def make_optimizer(self) -> torch.optim.Optimizer:
            optimizer = torch.optim.SGD(self.parameters(), 1.0)
            optimizer.register_step_pre_hook(lambda *_: seen.append("step"))
            return optimizer

    module = Watched()
    before = [weight.clone() for weight in module.parameters()]
    steps_of(module).take(batch_of(0))
    assert seen == ["clip", "step", "follow"]
    assert all(map(torch.equal, module.parameters(), before)), "gradients of norm 0"


def test_in_bf16_gradients_of_several_passes_add_up_in_fp32() -> None:
    """1 + 2^-9 is no number of bf16: a cache of cast weights would add both gradients as such."""

    class Twice(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(1, 1, bias=False)

        def training_step(self, batch: Batch) -> Tensor:
            self.record({})
            return sum((self.net(torch.full((1, 1), x)).float().sum() for x in (1.0, 2**-9)), torch.zeros(()))

    module = Twice()
    steps_of(module, HARDWARE.model_copy(update={"precision": "bf16"})).take(batch_of(0))
    assert module.net.weight.grad.item() == 1 + 2**-9


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    class Exploding(Regression):
        def training_step(self, batch: Batch) -> Tensor:
            return super().training_step(batch) * float("inf")

    module = Exploding()
    before = [weight.clone() for weight in module.parameters()]
    with pytest.raises(UserError, match="regression: the loss became inf at step 5"):
        steps_of(module).take(batch_of(5))
    assert all(map(torch.equal, module.parameters(), before))


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
