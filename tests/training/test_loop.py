"""Training that is killed, shared among processes, or stopped by a step that is not finite."""

import json
import multiprocessing
import os
import random
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from regression import HARDWARE, Regression, read, stage_in, weights
from torch import Tensor, distributed

from gcl_custom import console
from gcl_custom.errors import Stopped, UserError
from gcl_custom.machine_faults import explained
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.loop import fit
from gcl_custom.weights.state_dicts import save_weights


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


class Plain(Regression):
    """Without noise and dropout, so that the mean gradient of two halves is the gradient of the whole batch."""

    def training_step(self, batch: Batch) -> Tensor:
        self.net[1].p = 0.0
        loss = (self.net(batch.data) - batch.data.sum(1, keepdim=True)).square().mean()
        self.record({"loss": loss})
        return loss


class Deciding(Plain):
    """Decides by the history that the third epoch is the last one, and by that, how fast it learns."""

    last: int | None = None

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch)

    def heed(self, history: Sequence[Mapping[str, float]]) -> None:
        self.last = 3 if any("weight" in row for row in history) else None

    @property
    def last_epoch(self) -> int | None:
        return self.last

    def schedule(self, step: int) -> float:
        return 0.1 if self.last else 1.0


@pytest.mark.parametrize("killed_at", [13, 30])
def test_the_history_may_end_a_training_early_after_a_kill_too(
    tmp_path: Path, killed_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of five epochs of 13 steps are over before it is decided."""
    train(tmp_path / "whole", kind=Deciding)
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "regression epoch 2/3", "regression epoch 3/3",
    ]  # fmt: skip
    arguments = (tmp_path / "killed", killed_at, 1e-9, 1, Deciding)
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(tmp_path / "killed", kind=Deciding)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    rows = [json.loads((tmp_path / run / "regression" / "history.json").read_text()) for run in ("whole", "killed")]
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[0]] == [1, 2, 3]


def test_processes_decide_alike(tmp_path: Path) -> None:
    """Only the first one evaluates. If the second did not know of it, it would train on, at another rate."""
    for devices in (1, 2):
        train(tmp_path / str(devices), devices=devices, kind=Deciding)
    torch.testing.assert_close(weights(tmp_path / "1"), weights(tmp_path / "2"), rtol=1e-4, atol=1e-6)


def test_where_there_are_many_short_trainings_none_prints_its_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Brief(Regression):
        says_epochs = False

    train(tmp_path / "said")
    assert "epoch 5/5" in capsys.readouterr().out
    train(tmp_path / "brief", kind=Brief)
    assert "epoch" not in capsys.readouterr().out


def test_pictures_are_kept(tmp_path: Path) -> None:
    train(tmp_path)
    assert sorted(p.name for p in (tmp_path / "regression" / "pictures").iterdir()) == [
        "squares-00002.png", "squares-00004.png", "squares-00005.png",
    ]  # fmt: skip


def test_two_processes_train_as_one_and_say_so_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for devices in (1, 2):
        train(tmp_path / str(devices), devices=devices, kind=Plain)
        said = capfd.readouterr()
        assert [line.split("  ")[0] for line in said.out.splitlines()] == [
            f"regression epoch {epoch}/5" for epoch in (2, 4, 5)
        ]
        assert not said.err
    torch.testing.assert_close(weights(tmp_path / "1"), weights(tmp_path / "2"), rtol=1e-4, atol=1e-6)
    losses = [
        [row["loss"] for row in json.loads((tmp_path / run / "regression" / "history.json").read_text())]
        for run in "12"
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


class Running(Plain):
    """Learns from a running mean of its own share of the tiles, as the discriminator's regulariser does."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__(killed_at)
        self.register_buffer("mean", torch.zeros(()))

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.mean.lerp_(batch.data.mean(), 0.1)
        return super().training_step(batch) + (self.net(batch.data) - self.mean).square().mean()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, devices=2, kind=Running)
    return folder


def test_two_processes_that_are_killed_go_on_as_if_undisturbed(tmp_path: Path, undisturbed: Path) -> None:
    """A checkpoint has the first process's running figures alone, so all processes have to use those. Its sums of the
    epoch are those of all."""
    with pytest.raises(UserError, match=r"^One of the processes .* was killed.*the same command goes on"):
        train(tmp_path / "killed", 17, devices=2, kind=Running)
    train(tmp_path / "killed", devices=2, kind=Running)
    assert torch.equal(weights(undisturbed), weights(tmp_path / "killed"))
    whole, killed = (
        [row["loss"] for row in json.loads((folder / "regression" / "history.json").read_text())]
        for folder in (undisturbed, tmp_path / "killed")
    )
    assert killed == pytest.approx(whole, rel=1e-6)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    train(tmp_path)
    before = weights(tmp_path)
    train(tmp_path, killed_at=0)
    assert torch.equal(weights(tmp_path), before)


def test_not_a_number_stops_training_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Exploding(Regression):
        def training_step(self, batch: Batch) -> Tensor:
            return super().training_step(batch) * (float("nan") if batch.step == 15 else 1)

    stage = stage_in(tmp_path)
    with pytest.raises(UserError, match=r"loss became nan at step 15.*last good checkpoint.*learning rate"):
        fit(Exploding(), Batches(torch.arange(26), 2, 7, read), stage,
            HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9}), epochs=5, seed=1)  # fmt: skip
    kept = torch.load(stage.path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_a_gradient_alone_stops_training_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Steep(Regression):
        def training_step(self, batch: Batch) -> Tensor:
            loss = super().training_step(batch)
            # 0, with a slope of 0 times infinity
            return loss + self.net[0].weight.mul(0).sum().square().sqrt() if batch.step == 15 else loss

    stage = stage_in(tmp_path)
    with pytest.raises(UserError, match=r"the gradient became nan at step 15.*last good checkpoint.*learning rate"):
        fit(Steep(), Batches(torch.arange(26), 2, 7, read), stage,
            HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9}), epochs=5, seed=1)  # fmt: skip
    kept = torch.load(stage.path / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


class Asked(Regression):
    """Is asked to end within a step."""

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.asked_at:
            os.kill(os.getpid(), self.signal)
        return super().training_step(batch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [0, 13, 17])
def test_a_signal_ends_training_after_its_step_and_what_was_done_is_kept(
    tmp_path: Path, number: signal.Signals, step: int
) -> None:
    train(tmp_path / "whole")
    before = signal.getsignal(number)
    kind = type("AskedHere", (Asked,), {"asked_at": step, "signal": number})
    with pytest.raises(Stopped) as stopped:
        train(tmp_path / "asked", minutes=100.0, kind=kind)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    checkpoint = torch.load(tmp_path / "asked" / "regression" / "last.ckpt", weights_only=True)
    assert checkpoint["step"] == step + 1
    train(tmp_path / "asked", minutes=100.0)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "asked"))


class Shared(Running):
    """One of two processes asks the one that started both to end, as ``kill`` does."""

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.asked_at and distributed.get_rank() == 0:
            os.kill(os.getppid(), signal.SIGTERM)
        return super().training_step(batch)

    asked_at = 13


class AskedAll(Shared):
    """Every process is asked, as Ctrl-C in a terminal and a scheduler do."""

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.asked_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(batch)


@pytest.mark.parametrize("kind", [Shared, AskedAll])
def test_processes_that_train_together_save_when_they_are_asked_to_end(
    tmp_path: Path, kind: type[Running], undisturbed: Path
) -> None:
    with pytest.raises(Stopped) as stopped:
        train(tmp_path / "asked", minutes=100.0, devices=2, kind=kind)
    assert stopped.value.signal == signal.SIGTERM
    assert torch.load(tmp_path / "asked" / "regression" / "last.ckpt", weights_only=True)["step"] == 20
    train(tmp_path / "asked", minutes=100.0, devices=2, kind=Running)
    assert torch.equal(weights(undisturbed), weights(tmp_path / "asked"))


class Failing(Plain):
    """The second of two processes finds a mistake of the user, or one of ours."""

    error: Exception = UserError("the tiles are odd: mend them")

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == 3 and distributed.get_rank() == 1:
            raise self.error
        return super().training_step(batch)


class FailingOurs(Failing):
    error = ZeroDivisionError("ours")


class FullDisk(Failing):
    error = OSError(28, "No space left on device", "folder/file")


def test_a_mistake_in_one_of_several_processes_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^the tiles are odd: mend them$"):
        train(tmp_path / "user", devices=2, kind=Failing)
    with pytest.raises(UserError, match=r"^folder/file: the disk is full.*Make room"):
        train(tmp_path / "disk", devices=2, kind=FullDisk)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    with pytest.raises(RuntimeError, match=r"(?s)^in one of several processes:.*ZeroDivisionError: ours"):
        train(tmp_path / "ours", devices=2, kind=FailingOurs)


def test_more_devices_than_there_are_end_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hardware.devices is 200, but there can be \d+ processes on this CPU"):
        train(tmp_path, devices=200, kind=Plain)


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.99])
def test_a_damaged_checkpoint_is_named_with_what_to_remove(tmp_path: Path, size: float) -> None:
    train(tmp_path)
    path = tmp_path / "regression" / "last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(size * len(whole) if size < 1 else size)])
    with pytest.raises(
        UserError, match=rf"last.ckpt is damaged or .*Remove the folder {path.parent}, then type the same"
    ):
        train(tmp_path)
    path.write_bytes(random.Random(1).randbytes(1000))
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        train(tmp_path)
    torch.save({"state_dict": {}, "optimizer": {}, "step": 1}, path)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        train(tmp_path)


@pytest.mark.parametrize("limit", [100, 500, 1500, 4000])
def test_a_limit_of_the_size_of_files_ends_training_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Records, TensorBoard's file and checkpoints meet it in turn. What was written before stays whole."""
    monkeypatch.setattr(console.console, "quiet", True)  # what is printed may go to a file, which is limited, too
    train(tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="limited/regression") as caught:
            train(tmp_path / "limited")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Raise that limit" in (explained(caught.value) or "")
    assert not list(tmp_path.rglob("*.part"))
    train(tmp_path / "limited")
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "limited"))
