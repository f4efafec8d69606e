"""Faulty steps: what stops, what is put back, and what is counted; with real methods, see test_pretrain."""

import json
import multiprocessing
import signal
from pathlib import Path

import pytest
import torch
from test_training import HARDWARE, Plain, Regression, read, stage_in, train, weights
from torch import Tensor, nn

from gcl_custom import processes
from gcl_custom.errors import UserError
from gcl_custom.faults import Faults
from gcl_custom.training import Batch, Batches, fit

NAN, ONE = torch.tensor(float("nan")), torch.tensor(1.0)


def net() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return module, torch.optim.AdamW(module.parameters(), 0.1, weight_decay=0.5)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, faults: Faults, number: int, loss: Tensor) -> bool:
    faults.begin(number, module)
    optimizer.zero_grad()
    value = module(torch.randn(5, 3)).square().mean()
    faults.loss(loss)
    value.backward()
    left_out = faults.gradient(ONE, module, optimizer)
    optimizer.step()
    return left_out


def test_a_step_left_out_changes_nothing_but_the_count() -> None:
    (module, optimizer), faults = net(), Faults("s", Path("none"), most=2)
    for number, loss in enumerate((ONE, NAN, ONE, NAN)):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        assert step(module, optimizer, faults, number, loss) == bool(loss.isnan())
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name]) == bool(loss.isnan()), name
    assert faults.count == 2
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


def test_a_gradient_alone_is_a_fault_and_so_is_infinity() -> None:
    (module, optimizer), faults = net(), Faults("s", Path("none"), most=9)
    for norm in (NAN, torch.tensor(float("inf"))):
        faults.begin(0, module)
        faults.loss(ONE)
        assert faults.gradient(norm, module, optimizer)


def test_one_fault_too_many_stops(capsys: pytest.CaptureFixture[str]) -> None:
    (module, optimizer), faults = net(), Faults("stage", Path("none"), most=1)
    step(module, optimizer, faults, 3, NAN)
    assert "stage: the loss became nan at step 3; left out, 1 of at most 1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"loss became nan, after 1 steps that were left out already, at step 4"):
        step(module, optimizer, faults, 4, NAN)


def test_without_leave_the_first_fault_stops_and_nothing_is_kept() -> None:
    (module, optimizer), faults = net(), Faults("s", Path("none"), most=0)
    step(module, optimizer, faults, 0, ONE)
    assert not faults._buffers
    with pytest.raises(UserError, match="loss became nan at step 1, so training stopped"):
        step(module, optimizer, faults, 1, NAN)


class Exploding(Regression):
    """In mid run and at the end of an epoch; once in the gradient alone."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if batch.step == 20:
            return loss + self.net[0].weight.mul(0).sum().square().sqrt()  # 0, with a slope of 0 times infinity
        if batch.step in (7, 25):
            self.record({"loss": NAN})
            return loss * NAN
        return loss


def trained(
    folder: Path, killed_at: int | None = None, devices: int = 1, kind: type = Exploding, most: int = 3
) -> None:
    train(folder, killed_at, devices=devices, kind=kind, most_faults=most)


def history(folder: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((folder / "regression" / "history.json").read_text())
    return rows


def test_faults_are_counted_in_the_history_and_killed_runs_go_on_exactly(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    rows = history(tmp_path / "whole")
    assert [row["faults"] for row in rows] == [1, 2, 0, 0, 0]
    assert all(torch.tensor(row["loss"]).isfinite() for row in rows)
    for killed_at in (8, 22, 40):
        process = multiprocessing.get_context("fork").Process(target=trained, args=(tmp_path / "killed", killed_at))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    trained(tmp_path / "killed")
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert history(tmp_path / "killed") == rows


def test_the_count_goes_on_over_a_kill(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=trained, args=(tmp_path, 22, 1, Exploding, 2))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(UserError, match=r"after 2 steps that were left out already, at step 25.*last good checkpoint"):
        trained(tmp_path, most=2)


def test_a_run_without_faults_is_the_same_whatever_may_be_left_out(tmp_path: Path) -> None:
    for most in (0, 3):
        trained(tmp_path / str(most), kind=Regression, most=most)
    assert torch.equal(weights(tmp_path / "0"), weights(tmp_path / "3"))
    assert "faults" not in history(tmp_path / "0")[0]


def test_means_are_over_the_steps_that_count(tmp_path: Path) -> None:
    class Constant(Exploding):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if not self.recorded["loss"].isnan():
                self.record({"loss": torch.tensor(3.0)})
            return loss

    stage = stage_in(tmp_path)
    rows = fit(Constant(), Batches(torch.arange(26), 2, 7, read), stage, HARDWARE, epochs=5, seed=1, most_faults=3)
    assert [row["loss"] for row in rows] == [3.0] * 5


class OneOfTwo(Plain):
    """On the last process alone, and so that its gradient stays finite."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if batch.step in (7, 20) and processes.rank() == processes.count() - 1:
            return loss + torch.tensor(float("inf"))
        return loss


def test_two_processes_leave_out_the_same_steps_as_one(tmp_path: Path) -> None:
    for devices in (1, 2):
        trained(tmp_path / str(devices), devices=devices, kind=OneOfTwo)
    trained(tmp_path / "without", kind=Plain)
    assert [[row["faults"] for row in history(tmp_path / run)] for run in "12"] == [[1, 1, 0, 0, 0]] * 2
    torch.testing.assert_close(weights(tmp_path / "1"), weights(tmp_path / "2"), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights(tmp_path / "1"), weights(tmp_path / "without"), rtol=1e-4, atol=1e-6)
