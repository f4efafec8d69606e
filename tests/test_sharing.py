"""Every item is done once, by one of the processes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from gcl_custom.recipe import Hardware
from gcl_custom.sharing import each


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


def test_nothing_to_do_starts_no_process(tmp_path: Path) -> None:
    each(partial(opened, tmp_path), [], Hardware(accelerator="cpu", devices=2))
    assert [path.name for path in tmp_path.iterdir()] == [f"closed-{os.getpid()}"]
