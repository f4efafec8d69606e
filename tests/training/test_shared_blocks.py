"""Every item is made once, by one of the processes, and kept by the first."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import shared_blocks
from gcl_custom.training.shared_blocks import Hands, each, following


@contextmanager
def opened(folder: Path) -> Iterator[Hands]:
    def keep(item: int, maker: int) -> None:
        (folder / f"{item}-{maker}-{os.getpid()}").touch()

    yield Hands(lambda _: os.getpid(), keep)
    (folder / f"closed-{os.getpid()}").touch()


@pytest.mark.parametrize("devices", [1, 2])
def test_items_are_shared_among_processes(tmp_path: Path, devices: int) -> None:
    each(partial(opened, tmp_path), [3, 1, 4, 5, 9], HardwareSettings(accelerator="cpu", devices=devices))
    done = sorted(path.name.split("-") for path in tmp_path.glob("[0-9]*"))
    assert [item for item, *_ in done] == ["1", "3", "4", "5", "9"]
    makers = {maker for _, maker, _ in done}
    assert len(makers) == devices
    assert len({keeper for *_, keeper in done}) == 1
    assert {path.name.split("-")[1] for path in tmp_path.glob("closed-*")} == makers


def test_nothing_to_do_opens_nothing_and_starts_no_process(tmp_path: Path) -> None:
    each(partial(opened, tmp_path), [], HardwareSettings(accelerator="cpu", devices=2))
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
    monkeypatch.setattr(shared_blocks, "progress", lambda *_: nullcontext(ticks))
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
    monkeypatch.setattr(shared_blocks.processes, "rank", lambda: 1)
    monkeypatch.setattr(shared_blocks, "progress", lambda *_: pytest.fail("it is the first one's"))
    with following(Stage("few", tmp_path / "few", {}), 5, "few", "items", lambda: 0) as follow:
        follow()
    assert not (tmp_path / "few").exists()
