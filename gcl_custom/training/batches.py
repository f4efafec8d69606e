"""Batches of tiles, in an order that depends on (seed, epoch) alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.randomness import derive
from gcl_custom.training import processes


class Batch(NamedTuple):
    """The input of a training step."""

    step: int
    """Number of the step in the whole run, from 0; randomness is a function of it."""
    tiles: Int[Tensor, " b"]
    """Numbers of the tiles in the store."""
    data: Any
    """Read for these tiles."""


AHEAD = 16
"""Batches that a store is told of before they are read."""


@runtime_checkable
class Ordered(Protocol):
    """A store that says in which order an epoch takes its tiles, since not all of them may be at hand."""

    def order(self, index: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
        """The places of the tiles in ``index``, each once."""

    def fetch(self, index: Int[Tensor, " b"]) -> None:
        """Take note of tiles that will be read soon, and return at once."""


class Batches:
    """Batches whose order depends on (seed, epoch) alone. Iterating ends with the current epoch.

    The last, incomplete batch of an epoch is dropped. A batch larger than the data shrinks to it. Set ``step`` to go
    on from there. Under DDP each process gets its share of every batch.

    Args:
        store: what tiles are read from, where it has a say in their order; without it, that is wholly random.
        shares: number of processes; a batch that shrinks stays a multiple of it.

    Raises:
        UserError: there are fewer tiles than processes.
    """

    def __init__(
        self,
        index: Int[Tensor, " n"],
        batch: int,
        seed: int,
        read: Callable[[Tensor], Any],
        store: Ordered | None = None,
        shares: int = 1,
    ) -> None:
        self.index, self.seed, self._read, self._store = index, seed, read, store
        self.batch = min(batch, len(index)) // shares * shares
        if not self.batch:
            raise UserError(
                f"{counted(len(index), 'tile')} cannot be trained on by {shares} processes together. Lower "
                f"hardware.devices or hardware.nodes"
            )
        self.steps_per_epoch = len(index) // self.batch
        self.step = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.step // self.steps_per_epoch
        rng = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        store = self._store
        order = store.order(self.index, rng) if store else torch.randperm(len(self.index), generator=rng)
        rank, world = processes.rank(), processes.count()
        if self.batch % world:
            raise UserError(
                f"A batch of {self.batch} tiles cannot be split over {world} processes; choose a multiple of {world}"
            )
        share = self.batch // world

        last = (epoch + 1) * self.steps_per_epoch

        def of(step: int) -> Tensor:
            start = step % self.steps_per_epoch * self.batch + rank * share
            return self.index[order[start : start + share]]

        def fetch(step: int) -> tuple[Tensor, Any]:
            tiles = of(step)
            if store and step + AHEAD < last:
                store.fetch(of(step + AHEAD))
            return tiles, self._read(tiles)

        if store:
            store.fetch(torch.cat([of(step) for step in range(self.step, min(self.step + AHEAD, last))]))
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(fetch, self.step)
            while self.step < last:
                step, (tiles, data) = self.step, pending.result()
                if step + 1 < last:
                    pending = reader.submit(fetch, step + 1)
                self.step += 1
                yield Batch(step, tiles, data)
