"""Every item is done once, by one of the processes of a machine; and what falls to which of several machines."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from gcl_custom import sharing
from gcl_custom.recipe import Data, Hardware, Recipe
from gcl_custom.runs import Run, Stage, StaleStage
from gcl_custom.sharing import each, following, joins, share


@contextmanager
def opened(folder: Path) -> Iterator[Callable[[int], None]]:
    def do(item: int) -> None:
        (folder / f"{item}-{os.getpid()}").touch()

    yield do
    (folder / f"closed-{os.getpid()}").touch()


@pytest.mark.parametrize("devices", [1, 2])
def test_items_are_shared_among_processes(tmp_path: Path, devices: int) -> None:
    each(partial(opened, tmp_path), [3, 1, 4, 5, 9], Hardware(accelerator="cpu", devices=devices))
    done = sorted(tuple(path.name.split("-")) for path in tmp_path.iterdir())
    items = [(item, process) for item, process in done if item != "closed"]
    assert [item for item, _ in items] == ["1", "3", "4", "5", "9"]
    assert len({process for _, process in items}) == devices
    assert {process for item, process in done if item == "closed"} == {process for _, process in items}


def test_nothing_to_do_opens_nothing_and_starts_no_process(tmp_path: Path) -> None:
    each(partial(opened, tmp_path), [], Hardware(accelerator="cpu", devices=2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("machine", "done"), [(0, [3, 6, 9, 10, 8, 7, 5, 2]), (1, [7, 10]), (2, [2, 5, 8])])
def test_each_machine_does_its_share_and_the_first_one_then_the_rest_from_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], machine: int, done: list[int]
) -> None:
    recipe = Recipe(name="r", data=Data(root="."), hardware=Hardware(accelerator="cpu", nodes=3))
    run, stage = Run(tmp_path, recipe, machine=machine), Stage("few", tmp_path / "few", {})
    did, pending = list[int](), [2, 3, 5, 6, 7, 8, 9, 10]
    share(run, stage, pending, lambda: nullcontext(did.append))
    assert did == done
    said = capsys.readouterr().out
    own = sum(item % 3 == machine for item in pending)
    assert f"few: machine {machine} of 3 does {own} of the 8 blocks that are left" in said
    assert ("then what the others have not done" in said) == (machine == 0)
    assert ("the share of machine" in said) == (machine > 0)


def test_who_helps_waits_for_the_stage_and_for_what_it_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the first machine does meanwhile happens while this one sleeps."""
    before = [Stage("input", tmp_path / "input", {"seed": 0}) for _ in range(2)]
    leads, helps = (Stage("few", tmp_path / "few", {"seed": 0}, [stage]) for stage in before)
    deeds = iter([before[0].begin, before[0].finish, leads.begin, (tmp_path / "few" / "place").touch])
    monkeypatch.setattr(sharing.time, "sleep", lambda _: next(deeds)())
    assert joins(helps, helps.path / "place")
    assert next(deeds, None) is None
    assert capsys.readouterr().out.count("few: waiting for machine 0 to begin") == 1
    assert joins(helps, helps.path / "place"), "which a machine that is started again does at once"
    leads.finish()
    assert not joins(helps, helps.path / "place")
    assert "few: done before" in capsys.readouterr().out


def test_who_would_make_something_else_is_refused_or_waits_until_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stage("few", tmp_path / "few", {"seed": 0}).begin()
    with pytest.raises(StaleStage, match="seed: 0 -> 1"):
        joins(Stage("few", tmp_path / "few", {"seed": 1}), tmp_path)
    first = Stage("few", tmp_path / "few", {"seed": 1}, redo=True)
    deeds = iter([first.begin])
    monkeypatch.setattr(sharing.time, "sleep", lambda _: next(deeds)())
    assert joins(Stage("few", tmp_path / "few", {"seed": 1}, redo=True), tmp_path)
    assert next(deeds, None) is None


def test_who_helps_keeps_no_clock(tmp_path: Path) -> None:
    with following(None, 5, "few", "items", lambda: 0) as follow:
        follow()
    assert not list(tmp_path.iterdir())


class Ticks(list[tuple[str, int]]):
    """What a progress bar was told."""

    def skip(self, count: int) -> None:
        self.append(("skip", count))

    def advance(self, count: int) -> None:
        self.append(("advance", count))


def test_what_other_processes_did_is_followed_too_and_the_clock_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, done, stage = Ticks(), [0, 1], Stage("few", tmp_path / "few", {})
    monkeypatch.setattr(sharing, "progress", lambda *_: nullcontext(ticks))
    stage.begin()
    with following(stage, 5, "few", "items", lambda: len(done)) as follow:
        for new in ([2], [3, 4]):  # the second two by two processes
            before = stage.seconds
            time.sleep(0.01)
            done += new
            follow()
            assert stage.seconds > before
    assert ticks == [("skip", 2), ("advance", 1), ("advance", 2)]


def test_processes_but_the_first_show_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing.processes, "rank", lambda: 1)
    monkeypatch.setattr(sharing, "progress", lambda *_: pytest.fail("it is the first one's"))
    with following(Stage("few", tmp_path / "few", {}), 5, "few", "items", lambda: 0) as follow:
        follow()
    assert not (tmp_path / "few").exists()
