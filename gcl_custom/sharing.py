"""Work that is shared item by item, among machines by the items' numbers, and then among a machine's devices.

The devices of a machine share through Lightning's predict loop. Machines share a folder alone: each one does every n-th
item, and the first one afterwards what others have not done, so that none ever waits for another one's items.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import lightning
from torch.utils.data import DataLoader, Sampler

from gcl_custom import processes
from gcl_custom.console import progress, say
from gcl_custom.devices import pick_device
from gcl_custom.recipe import Hardware
from gcl_custom.runs import Run, Stage
from gcl_custom.training import quiet_lightning

POLL = 0.5
"""Seconds between two looks whether the first machine has begun a stage."""
Opened = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""Called once in each process, for what does an item; picklable."""


def joins(stage: Stage, place: Path) -> bool:
    """Wait, on a machine that helps, until the first one has begun a stage; False where all of it is done.

    Args:
        place: what is there once others may join.

    Raises:
        UserError: as Stage.begin does.
    """
    waits = False
    while True:
        with suppress(OSError):  # a file that is being replaced
            if stage.done:
                say(f"{stage.name}: done before, in {stage.path}")
                return False
            if stage.begun and place.exists():
                return True
        if not waits:
            say(f"{stage.name}: waiting for machine 0 to begin, in {stage.path}")
            waits = True
        time.sleep(POLL)


def share(run: Run, stage: Stage, pending: Sequence[int], opened: Opened) -> None:
    """Do this machine's share of the numbered items of a stage; on the first machine also all that is left of others'.

    Those it takes from the last one on, while the other machine comes from the first: they meet, wherever that is.

    Args:
        opened: what it gives passes over an item that another machine has done by then.
    """
    if not pending:
        return
    nodes, here = run.recipe.hardware.nodes, run.machine
    own = [item for item in pending if item % nodes == here]
    others = [item for item in reversed(pending) if item % nodes != here] if here == 0 else []
    if nodes > 1:
        then = ", then what the others have not done" if here == 0 else ""
        say(f"{stage.name}: machine {here} of {nodes} does {len(own)} of the {len(pending)} blocks that are left{then}")
    each(opened, [*own, *others], run.recipe.hardware)
    if here:
        say(f"{stage.name}: the share of machine {here} is done")


class _Share(Sampler[int]):
    """Every n-th place of a list for each of n processes."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __iter__(self) -> Iterator[int]:
        return iter(range(processes.rank(), self._length, processes.count()))

    def __len__(self) -> int:
        return len(range(processes.rank(), self._length, processes.count()))


class _Worker(lightning.LightningModule):
    """Does the items of its process."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._opened = opened

    def on_predict_start(self) -> None:
        processes.part_at_exit()
        self._exit = ExitStack()
        self._do = self._exit.enter_context(self._opened())

    def predict_step(self, batch: int, batch_idx: int) -> int:
        self._do(batch)
        return batch

    def on_predict_end(self) -> None:
        self._exit.close()
        del self._exit, self._do


def each(opened: Opened, items: Sequence[int], hardware: Hardware) -> None:
    """Do something for every item, shared among the devices of this machine, each in a process of its own."""
    if not items:
        return
    if hardware.devices == 1:
        with opened() as do:
            for item in items:
                do(item)
        return
    device = pick_device(hardware)
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=hardware.devices,
            strategy="ddp_spawn",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        loader = DataLoader(items, batch_size=None, sampler=_Share(len(items)))  # type: ignore[arg-type, var-annotated]
        trainer.predict(_Worker(opened), loader, return_predictions=False)


@contextmanager
def following(
    stage: Stage | None, total: int, name: str, unit: str, done: Callable[[], int]
) -> Iterator[Callable[[], None]]:
    """Shows, in the first of a machine's processes, how far all of them are, and keeps the stage's clock.

    Args:
        stage: None on a machine that only helps, which does not keep the clock.
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
            if stage is not None:
                stage.tick()
            now = done()
            ticker.advance(now - shown)
            shown = now

        yield follow
