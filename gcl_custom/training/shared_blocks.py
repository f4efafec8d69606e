"""Work that processes share, item by item. Each makes some, and the first one keeps what is made.

So no file is written by two processes, which a disk that several machines share need not bear.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from lightning_fabric import Fabric

from gcl_custom.console import progress
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import processes
from gcl_custom.training.allocator import freed_memory_kept
from gcl_custom.training.engine import launch
from gcl_custom.training.quiet_lightning import quiet_lightning


class Hands(NamedTuple):
    """How an item is done."""

    make: Callable[[int], Any]
    """Gives what belongs to an item, picklable and off the device; called in any process."""
    keep: Callable[[int, Any], None]
    """Writes what was made of an item; called in the first process alone."""


Opened = Callable[[], AbstractContextManager[Hands]]
"""Called once in each process. Picklable."""


def each(opened: Opened, items: Sequence[int], hardware: HardwareSettings) -> None:
    """Do every item once. All processes share the items.

    Raises:
        UserError: as an item raised it, or a process was killed.
    """
    if not items:
        return
    with quiet_lightning():
        launch(hardware, _share, opened, items, most=len(items))


@freed_memory_kept()
def _share(fabric: Fabric, opened: Opened, items: Sequence[int]) -> None:
    """Make this process's items, every n-th with n processes, and in the first one keep those of all."""
    rank, count = processes.rank(), processes.count()
    with opened() as (make, keep):
        for first in range(0, len(items), count):
            some = items[first : first + count]
            made = processes.gathered(make(some[rank]) if rank < len(some) else None)
            for item, one in zip(some, made, strict=False):  # the others have none
                keep(item, one)


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
