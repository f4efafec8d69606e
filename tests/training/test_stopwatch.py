"""Timing on a clock that only the work itself moves."""

import itertools

import pytest
import torch

from gcl_custom.training.stopwatch import Stopwatch, best_batch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def search(seconds_of: dict[int, float], most: int = 512, longest: float = 1e9) -> tuple[int, list[int]]:
    """The best batch, and the batches that were tried, where each batch takes the given seconds."""
    clock, tried = Clock(), []
    watch = Stopwatch(torch.device("cpu"), clock)

    def work(batch: int) -> None:
        tried.append(batch)
        if batch not in seconds_of:
            raise torch.OutOfMemoryError
        clock.now += seconds_of[batch]

    found = best_batch(lambda batch: watch.seconds(lambda: work(batch)), most, longest)
    return found, tried


def test_a_batch_is_doubled_until_the_time_a_tile_stops_falling() -> None:
    seconds = {1: 9.0, 2: 10.0, 4: 12.0, 8: 16.0, 16: 40.0, 32: 90.0, 64: 1.0}
    assert search(seconds) == (8, [1, 2, 4, 8, 16, 32])


def test_one_hiccup_does_not_end_the_search() -> None:
    assert search({1: 9.0, 2: 99.0, 4: 12.0, 8: 30.0, 16: 80.0}) == (4, [1, 2, 4, 8, 16])


def test_the_search_ends_where_tiles_memory_or_time_end() -> None:
    falling = {batch: batch**0.5 for batch in (1, 2, 4, 8, 16, 32)}
    assert search(falling, most=20) == (16, [1, 2, 4, 8, 16])
    assert search(falling) == (32, [1, 2, 4, 8, 16, 32, 64])
    assert search(falling, longest=5.0) == (8, [1, 2, 4, 8])


def test_medians_are_taken_in_turn_and_without_the_first_round() -> None:
    clock, order = Clock(), []
    durations = {"a": itertools.chain([100.0], [1.0, 5.0, 3.0]), "b": itertools.chain([100.0], [2.0, 2.0, 8.0])}

    def work(name: str, number: int) -> None:
        order.append((name, number))
        clock.now += next(durations[name])

    watch = Stopwatch(torch.device("cpu"), clock)
    works = {name: lambda number, name=name: work(name, number) for name in durations}
    found = watch.in_turn(works, rounds=3)
    assert found == pytest.approx({"a": 3.0, "b": 2.0})
    assert order == [(name, number) for number in range(4) for name in "ab"]
