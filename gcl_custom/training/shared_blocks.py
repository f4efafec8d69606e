"""Work that the devices of a machine share item by item, each in a process of its own, by Lightning's predict loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import lightning
from torch.utils.data import DataLoader, Sampler

from gcl_custom.console import progress
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs.stage import Stage
from gcl_custom.training import processes
from gcl_custom.training.devices import pick_device
from gcl_custom.training.quiet_lightning import quiet_lightning

Opened = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""Called once in each process, for what does an item; picklable."""


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


def each(opened: Opened, items: Sequence[int], hardware: HardwareSettings) -> None:
    """Do something for every item, shared among the devices, each in a process of its own."""
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
