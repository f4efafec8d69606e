"""The number of threads: what is free, what the user says, and what a stage began with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gcl_custom import threads
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

TICKS = 100
"""Of the clock, in a second."""


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four cores, torch with four threads, and no word of the user."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "GIVEN", False)
    monkeypatch.setattr(threads, "_state", threads._State())
    monkeypatch.setattr(threads, "cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "quota", lambda: None)
    yield
    torch.set_num_threads(before)


def others_keep(busy: float, monkeypatch: pytest.MonkeyPatch) -> None:
    threads._state.counted = -threads.FRESH_SECONDS
    monkeypatch.setattr(threads, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(threads, "busy_cores", lambda: busy)


@pytest.mark.parametrize(
    ("busy", "limit", "free"),
    [(0.0, None, 4), (0.4, None, 4), (0.6, None, 3), (2.0, None, 2), (3.9, None, 1), (9.0, None, 1),
     (0.0, 2.0, 2), (0.0, 0.5, 1), (3.0, 2.0, 1)],
)  # fmt: skip
def test_a_thread_for_each_free_core_and_at_least_one(
    busy: float, limit: float | None, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "quota", lambda: limit)
    assert threads.free_threads(4, busy) == free
    assert threads.free_threads(1, busy) == 1, "never more than torch would take"


@pytest.mark.parametrize(("niceness", "busy"), [(0, 1.5), (5, 1.75)])
def test_busy_cores_are_counted_among_ours_and_work_that_gives_way_is_not(
    niceness: int, busy: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a second, core 0 works for one second, core 1 for a half and a quarter of low priority, core 7 for others."""
    stat, clock = tmp_path / "stat", [0.0]

    def write(seconds: float) -> None:
        ticks = int(seconds * TICKS)
        stat.write_text(
            f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {7 + ticks} 3 5 900 9 0 0 0 0 0\n"
            f"cpu1 {ticks // 4} {8 + ticks // 4} {ticks // 4} 900 {ticks} 0 0 0 0 0\ncpu7 {ticks} 0 0 0 0 0 0 0 0 0\n"
            f"intr 5 5\n"
        )

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        write(clock[0])

    write(0)
    monkeypatch.setattr(threads, "STAT", stat)
    monkeypatch.setattr(threads, "SAMPLE_SECONDS", 1.0)
    monkeypatch.setattr("os.nice", lambda by: niceness)
    monkeypatch.setattr("os.sysconf", lambda name: TICKS)
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    assert threads.busy_cores() == pytest.approx(busy)


def test_without_the_systems_word_all_cores_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STAT", tmp_path / "none")
    assert threads.busy_cores() == 0
    monkeypatch.setattr(threads, "cores", lambda: None)
    assert threads.busy_cores() == 0
    assert threads.free_threads(4, 0.0) == 4


def test_a_containers_quota_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    assert threads.quota() is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads.quota() is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert threads.quota() == 1.5


def test_fewer_threads_are_said_once_and_more_when_the_cores_are_free_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others_keep(3.2, monkeypatch)
    assert threads.compute() == torch.get_num_threads() == 1
    monkeypatch.setattr(threads, "FRESH_SECONDS", 60.0)
    assert threads.compute() == 1
    assert capsys.readouterr().out == "threads: 1 of 4, since other work keeps 3.2 cores busy\n"
    others_keep(0.0, monkeypatch)
    assert threads.compute() == torch.get_num_threads() == 4
    assert not capsys.readouterr().out


def test_what_the_user_says_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    others_keep(3.2, monkeypatch)
    monkeypatch.setattr(threads, "GIVEN", True)
    assert threads.compute() == torch.get_num_threads() == 4
    monkeypatch.setattr(threads, "GIVEN", False)
    others_keep(0.0, monkeypatch)
    torch.set_num_threads(2)
    assert threads.compute() == torch.get_num_threads() == 2


def stage(folder: Path) -> Stage:
    return Run(folder, Recipe(name="r", data=DataSettings(root="none"))).stage("some", {"lr": 1})


def test_a_stage_that_goes_on_takes_the_number_with_which_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others_keep(3.2, monkeypatch)
    stage(tmp_path).begin()
    others_keep(0.0, monkeypatch)
    assert threads.compute() == 4
    capsys.readouterr()
    again = stage(tmp_path)
    again.begin()
    assert torch.get_num_threads() == 1
    assert "some: continues on 1 thread, as it began" in capsys.readouterr().out
    again.tick()
    again.finish()
    assert stage(tmp_path).record["threads"] == 1  # type: ignore[index]


def test_a_number_of_a_larger_machine_is_chosen_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others_keep(0.0, monkeypatch)
    stage(tmp_path).begin()
    torch.set_num_threads(2)
    stage(tmp_path).begin()
    assert torch.get_num_threads() == 2


def test_another_number_by_the_user_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others_keep(3.2, monkeypatch)
    stage(tmp_path).begin()
    monkeypatch.setattr(threads, "GIVEN", True)
    torch.set_num_threads(3)
    capsys.readouterr()
    stage(tmp_path).begin()
    assert "began on 1 thread, and continues on 3, as OMP_NUM_THREADS says" in capsys.readouterr().out
