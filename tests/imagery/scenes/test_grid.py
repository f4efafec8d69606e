from itertools import pairwise

import numpy as np
import pytest

from gcl_custom.imagery.scenes.grid import AT_ONCE, bounds, count, last_block, read_together, windows


def painted(height: int, width: int, found: list[tuple[int, int, int, int]]) -> np.ndarray:
    """How many windows hold each pixel, (h, w)."""
    times = np.zeros((height, width), int)
    for column, row, wide, tall in found:
        times[row : row + tall, column : column + wide] += 1
    return times


@pytest.mark.parametrize(("height", "width", "block"), [(100, 70, (32, 32)), (96, 64, (1, 64)), (70, 100, (7, 128))])
def test_windows_without_overlap_cover_all_but_the_right_and_lower_rest_once(
    height: int, width: int, block: tuple[int, int]
) -> None:
    found = windows(width, height, 16, 0, block)
    times = painted(height, width, found)
    assert (times[: height // 16 * 16, : width // 16 * 16] == 1).all()
    assert times.sum() == len(found) * 256
    assert len(found) == len(set(found)) == count(width, height, 16, 0)


@pytest.mark.parametrize("overlap", [1, 4, 8, 15])
def test_neighbours_share_just_the_overlap(overlap: int) -> None:
    found = windows(70, 50, 16, overlap, (32, 32))
    columns = sorted({column for column, *_ in found})
    assert set(np.diff(columns)) == {16 - overlap}
    assert 70 - (16 - overlap) < columns[-1] + 16 <= 70
    assert (painted(50, 70, found)[:16, :16] >= 1).all()
    assert len(found) == count(70, 50, 16, overlap)


def test_a_scene_smaller_than_a_window_has_none() -> None:
    for width, height in ((1, 1), (15, 100), (100, 15)):
        assert windows(width, height, 16, 4, (1, 1)) == []
        assert count(width, height, 16, 4) == 0


def test_windows_of_a_block_follow_one_another() -> None:
    blocks = [(row // 32, column // 32) for column, row, *_ in windows(128, 128, 16, 0, (32, 32))]
    changes = sum(one != other for one, other in pairwise(blocks))
    assert changes + 1 == len(set(blocks)) == 16


def test_what_is_read_at_once_is_bounded_and_not_wasteful() -> None:
    found = windows(8000, 4096, 64, 0, (512, 512))
    lengths = read_together(found)
    assert sum(lengths) == len(found)
    assert len(lengths) < len(found) / 100
    start = 0
    for length in lengths:
        some = found[start : start + length]
        _, _, width, height = bounds(some)
        assert width * height <= min(AT_ONCE, 2 * length * 64**2)
        start += length


def test_windows_that_overlap_much_are_read_fewer_at_once() -> None:
    """Each of them is cut out and held, so their pixels count, not those of the scene."""
    found = windows(600, 600, 64, 60, (512, 512))
    lengths = read_together(found)
    assert sum(lengths) == len(found)
    assert max(lengths) * 64**2 == AT_ONCE


def test_windows_far_apart_are_read_alone() -> None:
    assert read_together(windows(2048, 2048, 64, 0, (512, 512))[::50]) == [1] * 21
    assert read_together([(0, 0, 2000, 2000), (0, 0, 2000, 2000)]) == [1, 1]
    assert read_together([]) == []


def test_the_last_block_is_at_the_lower_right() -> None:
    assert last_block(100, 70, (32, 32)) == (3, 2)
    assert last_block(96, 64, (1, 96)) == (0, 63)
