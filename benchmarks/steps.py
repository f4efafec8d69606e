"""Forward and backward passes of a network, timed in turn."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

BATCH = 128
"""Tiles of a step, as the small recipes have it."""
Step = Callable[[], float]
"""Takes a step, and says how many seconds it took."""


def step_of(
    network: nn.Module,
    size: int,
    under: Callable[[], AbstractContextManager[object]] = nullcontext,
    clock: Callable[[], float] = time.process_time,
) -> Step:
    """Forward and back on tiles of noise; one step is taken at once, to warm up.

    Args:
        size: side of the tiles in pixels.
        under: what surrounds the forward pass, such as autocast.
    """
    tiles = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)

    def step() -> float:
        began = clock()
        with under():
            said = network(tiles)
        said.float().square().mean().backward()
        return clock() - began

    step()
    return step


def in_turn(sides: Sequence[Step], rounds: int) -> list[float]:
    """The median of each side's steps, taken in turn."""
    taken = [[side() for side in sides] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*taken, strict=True)]
