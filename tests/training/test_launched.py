"""Processes of a launcher: what they share, how they end, and that they train as processes that are started here."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from launched_processes import Two
from regression import HARDWARE, Regression, read, stage_in, weights
from torch import Tensor, distributed

from gcl_custom.errors import UserError
from gcl_custom.training import launched, processes
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.engine import engine
from gcl_custom.training.loop import fit
from gcl_custom.training.shared_blocks import Hands, each
from gcl_custom.weights.state_dicts import save_weights

NODES = {"nodes": 2}


class Sharing(Regression):
    """Each process has a share of the batch, and a running mean of its own; one may be killed or told to end."""

    def __init__(self, killed: tuple[int, int] | None = None, asked_at: int | None = None) -> None:
        super().__init__()
        self.killed, self.asked_at = killed, asked_at
        self.register_buffer("mean", torch.zeros(()))

    def training_step(self, batch: Batch) -> Tensor:
        here = distributed.get_rank() if distributed.is_initialized() else 0
        if (here, batch.step) == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if here == 0 and batch.step == self.asked_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.mean.lerp_(batch.data.mean(), 0.1)
        return super().training_step(batch) + (self.net(batch.data) - self.mean).square().mean()


class Wrong(Regression):
    """The second process finds a mistake of the user."""

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == 3 and distributed.get_rank() == 1:
            raise UserError("the tiles are odd: mend them")
        return super().training_step(batch)


def train(folder: Path, module: Regression, **hardware: int) -> None:
    torch.manual_seed(3)
    module.net.load_state_dict(Regression().net.state_dict())
    stage = stage_in(folder)
    settings = HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9, **hardware})
    fit(module, Batches(torch.arange(26), 2, 7, read), stage, settings, 5, 1)
    save_weights(stage.path / "net.safetensors", module.net)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    folder = tmp_path_factory.mktemp("whole")
    assert Two(partial(train, folder, Sharing(), **NODES)).codes() == [0, 0]
    return weights(folder)


def test_any_launcher_s_processes_train_to_the_same_weights(tmp_path: Path, undisturbed: Tensor) -> None:
    two = Two(partial(train, tmp_path, Sharing(), **NODES), "torchrun")
    assert (two.codes(), two.error) == ([0, 0], "")
    assert torch.equal(weights(tmp_path), undisturbed)


class Even(Regression):
    """Without noise and dropout, so that the mean gradient of two halves is that of the whole batch."""

    def training_step(self, batch: Batch) -> Tensor:
        loss = (self.net[0](batch.data).relu().sum(1) - batch.data.sum(1)).square().mean() + self.net[3].weight.sum()
        self.record({"loss": loss})
        return loss


def test_two_nodes_train_as_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    train(tmp_path / "one", Even())
    assert Two(partial(train, tmp_path / "two", Even(), **NODES)).codes() == [0, 0]
    torch.testing.assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_training_goes_on_to_the_same_weights(
    tmp_path: Path, rank: int, undisturbed: Tensor
) -> None:
    two = Two(partial(train, tmp_path, Sharing(killed=(rank, 33)), **NODES))
    assert two.codes() == ([-signal.SIGKILL, 1] if rank == 0 else [1, -signal.SIGKILL])
    if rank:
        assert two.error.startswith("UserError: One of the processes that work together was killed (number 1, on ")
    assert Two(partial(train, tmp_path, Sharing(), **NODES)).codes() == [0, 0]
    assert torch.equal(weights(tmp_path), undisturbed)


def test_a_signal_to_the_first_process_saves_and_ends_all(tmp_path: Path, undisturbed: Tensor) -> None:
    two = Two(partial(train, tmp_path, Sharing(asked_at=13), **NODES))
    assert two.codes() == [1, 128 + signal.SIGTERM]
    assert two.error.startswith("Stopped")
    assert torch.load(tmp_path / "regression" / "last.ckpt", weights_only=True)["step"] == 20
    assert Two(partial(train, tmp_path, Sharing(), **NODES)).codes() == [0, 0]
    assert torch.equal(weights(tmp_path), undisturbed)


def test_a_mistake_in_another_process_is_said_by_the_first(tmp_path: Path) -> None:
    two = Two(partial(train, tmp_path, Wrong(), **NODES))
    assert (two.codes(), two.error) == ([1, 1], "UserError: the tiles are odd: mend them")


def alone(folder: Path) -> None:
    """The first process works by itself, for a long time."""
    (folder / "begun").touch()
    time.sleep(600)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_while_they_do_not_compute(
    tmp_path: Path, rank: int, capfd: pytest.CaptureFixture[str]
) -> None:
    two = Two(partial(alone, tmp_path))
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    two.processes[rank].kill()
    assert two.codes() == ([-signal.SIGKILL, 1] if rank == 0 else [1, -signal.SIGKILL])
    assert f"was killed (number {rank}, on" in capfd.readouterr().err


def leave(code: int) -> None:
    raise SystemExit(code)


@pytest.mark.parametrize("code", [0, 3])
def test_all_end_with_the_exit_code_of_the_first(code: int) -> None:
    assert Two(partial(leave, code)).codes() == [code, code]


def named(items: Sequence[int]) -> Iterator[tuple[int, int]]:
    for item in items:
        yield item, os.getpid()


def share(folder: Path) -> None:
    """What is shared, as the first process sees it."""
    found = {
        "alone": [processes.count(), processes.rank(), engine(HARDWARE).world_size],
        "made": list(launched.shared(named, [5, 6, 7, 8, 9])),
        "none": list(launched.shared(named, [])),
    }
    each(partial(opened, folder), [3, 1, 4, 5, 9], HARDWARE.model_copy(update=NODES))
    (folder / "found.json").write_text(json.dumps(found | {"first": os.getpid()}))


@contextmanager
def opened(folder: Path) -> Iterator[Hands]:
    def keep(item: int, maker: int) -> None:
        (folder / f"{item}-{maker}-{os.getpid()}").touch()

    yield Hands(lambda _: os.getpid(), keep)


def test_processes_share_items_and_the_first_one_keeps_what_is_made(tmp_path: Path) -> None:
    two = Two(partial(share, tmp_path))
    assert (two.codes(), two.error) == ([0, 0], "")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["alone"] == [1, 0, 1]
    assert found["none"] == []
    assert [item for item, _ in found["made"]] == [5, 6, 7, 8, 9]
    first, second = found["first"], found["made"][1][1]
    assert first != second
    assert [maker for _, maker in found["made"]] == [first, second, first, second, first]
    kept = sorted(path.name for path in tmp_path.glob("*-*"))
    assert kept == sorted(
        f"{item}-{maker}-{first}"
        for item, maker in zip([3, 1, 4, 5, 9], [first, second, first, second, first], strict=True)
    )


def counted(items: Sequence[int]) -> Iterator[tuple[int, int]]:
    for _ in items:
        yield os.getpid(), torch.get_num_threads()


def share_on_two_threads(folder: Path) -> None:
    torch.set_num_threads(2)
    found = list(launched.shared(counted, [1, 2]))
    (folder / "found.json").write_text(json.dumps([found, torch.get_num_threads()]))


def test_all_take_the_threads_of_the_first(tmp_path: Path) -> None:
    assert Two(partial(share_on_two_threads, tmp_path)).codes() == [0, 0]
    found, after = json.loads((tmp_path / "found.json").read_text())
    assert [threads for _, threads in found] == [2, 2]
    assert found[0][0] != found[1][0]
    assert after == 2


def test_without_a_launcher_one_process_makes_all() -> None:
    assert not launched.leads()
    assert launched.started() is None
    assert list(launched.shared(named, [5, 6])) == [(5, os.getpid()), (6, os.getpid())]


def too_few(folder: Path, work: Callable[..., None] = train) -> None:
    work(folder, Sharing(), nodes=3)


def share_two() -> None:
    list(launched.shared(named, [1, 2]))


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    enter = launched._enter
    monkeypatch.setattr(launched, "_enter", lambda folder: enter(f"{folder}/nowhere"))
    two = Two(share_two, folder=tmp_path / "here")
    assert two.codes() == [1, 1]
    assert "/here/nowhere, where the first process works (No such file or directory)" in two.error


def test_another_number_of_nodes_than_the_recipe_s_is_refused(tmp_path: Path) -> None:
    two = Two(partial(too_few, tmp_path))
    assert two.codes() == [1, 1]
    assert "srun started 2 processes on 2 nodes, but hardware.nodes is 3" in two.error
