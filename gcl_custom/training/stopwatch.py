"""Time by the clock: of one call, of several in turn, and the batch at which a tile takes least."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

PATIENCE = 2
"""Doublings in a row that bring nothing, after which no larger batch is tried: one alone may be a hiccup."""


@dataclass(frozen=True)
class Stopwatch:
    """Times work on a device, which is waited for before and after."""

    device: torch.device
    clock: Callable[[], float] = time.perf_counter

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one call."""
        self._wait()
        start = self.clock()
        work()
        self._wait()
        return self.clock() - start

    def in_turn(
        self,
        works: Mapping[str, Callable[[int], object]],
        rounds: int,
        summary: Callable[[Sequence[float]], float] = statistics.median,
    ) -> dict[str, float]:
        """Seconds of each, called in turn, so that what else the machine does falls on all of them alike.

        Args:
            works: each gets the number of the round; the first round, 0, warms up and does not count.
            summary: of the times of one work.
        """
        taken: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds + 1):
            for name, work in works.items():
                taken[name].append(self.seconds(partial(work, number)))
        return {name: summary(values[1:]) for name, values in taken.items()}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def best_batch(seconds_of: Callable[[int], float], most: int, longest: float) -> int:
    """The batch at which a tile takes least, doubled from 1 on until the time a tile stops falling.

    Args:
        seconds_of: takes a batch of that many tiles. It may run out of a device's memory, which ends the search.
        most: tiles that there are.
        longest: no batch is tried that would take more seconds than this.
    """
    best, least, fruitless, batch = 1, math.inf, 0, 1
    while batch <= most and fruitless < PATIENCE:
        try:
            seconds = seconds_of(batch)
        except torch.OutOfMemoryError:
            break
        if seconds / batch < least:
            best, least, fruitless = batch, seconds / batch, 0
        else:
            fruitless += 1
        if 2 * seconds > longest:
            break
        batch *= 2
    return best
