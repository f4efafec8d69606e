"""What is timed in turn, such as forward and backward passes of a network, and a row that compares two of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from benchmarks.record import Row
from gcl_custom.training.stopwatch import Stopwatch

BATCH = 128
"""Tiles of a step, as the small recipes have it."""
CPU = torch.device("cpu")
Step = Callable[[], object]


def step_of(network: nn.Module, size: int, under: Callable[[], AbstractContextManager[object]] = nullcontext) -> Step:
    """Forward and back on tiles of noise.

    Args:
        size: side of the tiles in pixels.
        under: what surrounds the forward pass, such as autocast.
    """
    tiles = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with under():
            said = network(tiles)
        said.float().square().mean().backward()

    return step


def watch(device: torch.device = CPU) -> Stopwatch:
    """Of the processor's time, in which other load on the machine matters little; on a GPU of the clock's."""
    return Stopwatch(device, time.process_time if device.type == "cpu" else time.perf_counter)


def in_turn(ways: Mapping[str, Step], rounds: int, by: Stopwatch | None = None) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round to warm up; by ``watch()`` if no other is given."""
    by, seconds = by or watch(), dict[str, list[float]]()
    for number in range(rounds + 1):
        for name, way in ways.items():
            taken = by.seconds(way)
            if number:
                seconds.setdefault(name, []).append(taken)
    return seconds


def row(name: str, seconds: Mapping[str, list[float]], count: int, unit: str, target: float | None) -> Row:
    """The median over rounds of the ratio of the second way's time to the first's."""
    ours, theirs = seconds.values()
    rates = [count / statistics.median(taken) for taken in (ours, theirs)]
    return Row(
        name=name,
        ratio=statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
        target=target,
        detail=f"{rates[0]:.3g} against {rates[1]:.3g} {unit} a second",
    )
