"""The bootstrap over blocks: all test tiles of a block are drawn together, since neighbours are alike.

    n  tiles     g  blocks     b  resamplings

Percentiles of resampled means are too narrow where there are few blocks. They are therefore taken further out, as far
as Student's t and the variance of few blocks ask for (T. Hesterberg, The American Statistician 69, 2015: the expanded
percentile interval). For many blocks this changes nothing.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from gcl_custom.randomness import derive

DRAWS = 4000
CHUNK = 2**22
"""The most weights that are in memory at a time."""


def numbered(blocks: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """The blocks' numbers from 0 on without gaps, and how many there are."""
    distinct, numbers = np.unique(blocks, return_inverse=True)
    return numbers, len(distinct)


def draws_of_blocks(count: int, draws: int = DRAWS, tiles: int = 0) -> Iterator[Int[np.ndarray, "b g"]]:
    """How often each of so many blocks is drawn, part by part; this depends on their number only.

    Args:
        tiles: number of tiles, where each needs a weight of its own.
    """
    rng = np.random.default_rng(derive(0, "bootstrap of blocks", count))
    step = max(1, CHUNK // max(count, tiles))
    for start in range(0, draws, step):
        yield rng.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start))


def resampled_means(values: Float[np.ndarray, " n"], blocks: Int[np.ndarray, " n"]) -> Float[np.ndarray, " b"]:
    """The mean of the values over the tiles of each sample of blocks."""
    numbers, count = numbered(blocks)
    sums, tiles = np.bincount(numbers, values, count), np.bincount(numbers, minlength=count)
    return np.concatenate([(drawn @ sums) / (drawn @ tiles) for drawn in draws_of_blocks(count)])


def interval(resampled: Float[np.ndarray, " b"], count: int, confidence: float) -> tuple[float, float]:
    """The expanded percentiles of what so many blocks gave when resampled."""
    reach = stats.t.ppf((1 + confidence) / 2, count - 1) * math.sqrt(count / (count - 1))
    tail = 100 * float(stats.norm.sf(reach))
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)


def p_value(resampled: Float[np.ndarray, " b"], count: int) -> float:
    """Two-sided p-value of the hypothesis that the mean is zero, from the side on which fewer samples lie."""
    tail = max(float(min((resampled <= 0).mean(), (resampled >= 0).mean())), 1 / len(resampled))
    reach = float(stats.norm.isf(tail)) * math.sqrt((count - 1) / count)
    return min(1.0, 2 * float(stats.t.sf(reach, count - 1)))


def variance(resampled: Float[np.ndarray, " b"], count: int) -> float:
    """The variance of the mean: the bootstrap's is too small by one block."""
    return float(resampled.var()) * count / (count - 1)
