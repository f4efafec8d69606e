"""Work that the devices of a machine share item by item, each in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lightning.fabric import Fabric

from gcl_custom.console import progress
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import processes
from gcl_custom.training.quiet_lightning import quiet_lightning
from gcl_custom.training.steps import engine

Opened = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""Called once in each process, for what does an item; picklable."""


def each(opened: Opened, items: Sequence[int], hardware: HardwareSettings) -> None:
    """Do something for every item, shared among the devices, each in a process of its own."""
    if not items:
        return
    with quiet_lightning():
        engine(hardware, min(hardware.devices, len(items))).launch(_share, opened, items)


def _share(fabric: Fabric, opened: Opened, items: Sequence[int]) -> None:
    """Every n-th item for each of n processes."""
    processes.part_at_exit()
    with opened() as do:
        for item in items[fabric.global_rank :: fabric.world_size]:
            do(item)


@contextmanager
def following(stage: Stage, total: int, name: str, unit: str, done: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Shows, in the first process, how far all of them are, and keeps the stage's clock.

    Args:
        name, unit: of what is counted.
        done: how many there are by now, by whatever process.

    Yields:
        what is to be called after each item.
    """
    if processes.rank() > 0:
        yield lambda: None
        return
    shown = done()
    with progress(total, name, unit) as ticker:
        ticker.skip(shown)

        def follow() -> None:
            nonlocal shown
            stage.tick()
            now = done()
            ticker.advance(now - shown)
            shown = now

        yield follow
