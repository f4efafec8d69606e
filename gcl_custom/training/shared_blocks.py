"""Work that the devices of a machine share, item by item. Each device has a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lightning_fabric import Fabric

from gcl_custom.console import progress
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import processes
from gcl_custom.training.allocator import keep_freed_memory
from gcl_custom.training.quiet_lightning import quiet_lightning
from gcl_custom.training.steps import engine

Opened = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""Called once in each process; gives the function that does an item. Picklable."""


def each(opened: Opened, items: Sequence[int], hardware: HardwareSettings) -> None:
    """Do every item once. The devices share the items.

    Raises:
        UserError: as an item raised it, or a process was killed.
    """
    if not items:
        return
    with quiet_lightning():
        processes.launch(engine(hardware, min(hardware.devices, len(items))), _share, opened, items)


def _share(fabric: Fabric, opened: Opened, items: Sequence[int]) -> None:
    """Do this process's items: every n-th with n processes."""
    keep_freed_memory()
    with opened() as do:
        for item in items[fabric.global_rank :: fabric.world_size]:
            do(item)


@contextmanager
def following(stage: Stage, total: int, name: str, unit: str, done: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Show the progress of all processes together, in the first one, and keep the stage's clock.

    Args:
        name, unit: of what is counted.
        done: the number done so far, by all processes.

    Yields:
        A function to call after each item.
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
