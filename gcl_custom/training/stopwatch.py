"""Wall time of one call or of several in turn, and the batch with the least time a tile."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

PATIENCE = 2
"""The search ends after this many doublings in a row that bring nothing; a single one may be a hiccup."""


@dataclass(frozen=True)
class Stopwatch:
    """Times work on a device. It waits for the device before and after."""

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
        """Seconds of each work. They are called in turn, so that other load on the machine affects all alike.

        Args:
            works: each gets the number of the round. Round 0 warms up and does not count.
            summary: makes one figure of the times of a work.
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
    """The batch with the least time a tile. It is doubled, from 1, until that time stops falling.

    Args:
        seconds_of: time of a batch of so many tiles. Running out of memory ends the search.
        most: number of tiles.
        longest: seconds; a batch that would take longer is not tried.
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
