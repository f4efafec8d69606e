"""Batches of tiles, in an order that depends on (seed, epoch) alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

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


class Batches:
    """Batches whose order depends on (seed, epoch) alone. Iterating ends with the current epoch.

    The last, incomplete batch of an epoch is dropped. A batch larger than the data shrinks to it. Set ``step`` to go
    on from there. Under DDP each process gets its share of every batch.
    """

    def __init__(self, index: Int[Tensor, " n"], batch: int, seed: int, read: Callable[[Tensor], Any]) -> None:
        self.index, self.seed, self._read = index, seed, read
        self.batch = min(batch, len(index))
        self.steps_per_epoch = len(index) // self.batch
        self.step = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.step // self.steps_per_epoch
        order = torch.randperm(
            len(self.index), generator=torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        )
        rank, world = processes.rank(), processes.count()
        if self.batch % world:
            raise UserError(
                f"A batch of {self.batch} tiles cannot be split over {world} processes; choose a multiple of {world}"
            )
        share = self.batch // world

        def fetch(step: int) -> tuple[Tensor, Any]:
            start = step % self.steps_per_epoch * self.batch + rank * share
            tiles = self.index[order[start : start + share]]
            return tiles, self._read(tiles)

        last = (epoch + 1) * self.steps_per_epoch
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(fetch, self.step)
            while self.step < last:
                step, (tiles, data) = self.step, pending.result()
                if step + 1 < last:
                    pending = reader.submit(fetch, step + 1)
                self.step += 1
                yield Batch(step, tiles, data)
