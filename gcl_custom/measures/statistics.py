"""What scores can show: intervals, and paired tests with a verdict in words.

A score varies for two reasons: another seed trains another backbone, and another sample of test tiles scores it
differently. Each reason has its own paired interval, and a difference is *shown* only when both intervals exclude zero:

    over seeds   Student's t on the differences of the seeds' scores (the test tiles held fixed)
    over tiles   Student's t on the differences of the tiles' correctness, averaged over seeds (the seeds held fixed)

mAP and mIoU are no means over tiles, so their interval over tiles is the paired bootstrap's: from the 2.5th to the
97.5th percentile of the differences on resampled tiles.

Where tiles were divided by blocks on the ground or by scenes, the tiles of one block are no independent sample. All
intervals over tiles are then the bootstrap's over blocks (``block_bootstrap``).

Requiring both is stricter than either test alone. Each interval covers 95 % by itself, so a single test would find a
difference in one of twenty comparisons of equal arms.

Below five seeds the interval over seeds is so wide that it tells a reader nothing: with two seeds that differ by three
points it spans thirty-eight. Then the seeds themselves are shown, with the interval over tiles. What counts as shown
stays the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from gcl_custom.counted import counted, points, signed
from gcl_custom.measures import block_bootstrap, overlap
from gcl_custom.measures.average_precision import mean_average_precision, resampled

CONFIDENCE = 0.95
PERCENTILES = (100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2)

FEW_SEEDS = 5
"""Fewer seeds than these are shown one by one, in place of an interval over them."""

Outcome = Literal["better", "worse", "not shown"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, which is None for a single value."""

    mean: float
    low: float | None
    high: float | None
    p: float | None = None
    """Two-sided p-value of the hypothesis that the mean is zero."""

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float] | Float[np.ndarray, "n"]) -> Estimate:
    """Mean and Student's t interval of independent values; for paired differences, this is the paired t-test.

    If all values are equal, the interval has no width, and p is 1 for a mean of zero and 0 otherwise.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("a mean needs at least one value")
    mean = float(sample.mean())
    if sample.size == 1:
        return Estimate(mean, None, None)
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    if error <= 1e-12 * abs(mean):  # equal values, up to rounding
        return Estimate(mean, mean, mean, p=0.0 if mean else 1.0)
    freedom = sample.size - 1
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half, p=float(2 * stats.t.sf(abs(mean) / error, freedom)))


def wilson(right: float | int, tiles: float | int) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927), which is also sound near 0 and 1.

    Args:
        right, tiles: counts, or for tiles that are not independent, the counts of as many as would be worth the same.
    """
    if not 0 <= right <= tiles or tiles == 0:
        raise ValueError(f"{right} right of {tiles} tiles is no share")
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    share = right / tiles
    centre = (share + z * z / (2 * tiles)) / (1 + z * z / tiles)
    half = z / (1 + z * z / tiles) * math.sqrt(share * (1 - share) / tiles + z * z / (4 * tiles * tiles))
    return max(0.0, centre - half), min(1.0, centre + half)


class Result(ABC):
    """What each seed's classifier said of the test tiles, beside their labels."""

    @property
    @abstractmethod
    def scores(self) -> Float[np.ndarray, "seeds"]: ...

    @property
    @abstractmethod
    def tiles(self) -> int: ...

    blocks: Int[np.ndarray, "tiles"] | None
    """The number of each tile's block, where tiles of a block are to be resampled together."""

    def in_blocks(self, of: Int[np.ndarray, "tiles"] | None) -> "Result":
        """The same, with tiles of a block resampled together."""
        return replace(self, blocks=of)  # type: ignore[type-var]

    @property
    def block_count(self) -> int | None:
        return None if self.blocks is None else len(np.unique(self.blocks))

    @abstractmethod
    def interval(self) -> tuple[float, float]:
        """The interval of the score over test tiles, or over their blocks."""

    @abstractmethod
    def over_tiles(self, other: "Result") -> Estimate:
        """This score minus another one's, with its paired interval over test tiles."""


@dataclass(frozen=True)
class Right(Result):
    """Whether each seed classified each test tile correctly; the score is the share of correct tiles."""

    right: Bool[np.ndarray, "seeds tiles"]
    blocks: Int[np.ndarray, "tiles"] | None = None

    @property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        shares: Float[np.ndarray, " seeds"] = self.right.mean(axis=1)
        return shares

    @property
    def tiles(self) -> int:
        return self.right.shape[1]

    def interval(self) -> tuple[float, float]:
        """Wilson's, of as many independent tiles as have the variance of the tiles' means over seeds.

        With one seed, these are the tiles. Several seeds vary less, but are mostly right on the same tiles. Of
        blocks it is the bootstrap's; where all blocks are alike, Wilson's, of as many tiles as there are blocks.
        """
        if self.blocks is not None:
            mean = self.right.mean(axis=0)
            found = _over_blocks(mean, self.blocks)
            if found.low is not None and found.high is not None and found.high > found.low:
                return found.low, found.high
            count = len(np.unique(self.blocks))
            return wilson(float(mean.mean()) * count, count)
        share, spread = float(self.right.mean()), float(self.right.mean(axis=0).var())
        worth = self.tiles * share * (1 - share) / spread if spread else float(self.tiles)
        worth = min(worth, float(self.right.size))
        return wilson(share * worth, worth)

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Right)
        differences = (self.right.astype(np.float64) - other.right.astype(np.float64)).mean(axis=0)
        return mean_interval(differences) if self.blocks is None else _over_blocks(differences, self.blocks)


class Bootstrapped(Result):
    """A result whose score is no mean over tiles: its interval is that of the score on resampled tiles."""

    @property
    @abstractmethod
    def resampled(self) -> Float[np.ndarray, "draws"]:
        """The mean score over seeds on each sample. The samples of results of the same tiles are the same."""

    def interval(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.block_count == 1 else self._percentiles(self.resampled)

    def _percentiles(self, values: Float[np.ndarray, "draws"]) -> tuple[float, float]:
        if (count := self.block_count) is not None:
            return block_bootstrap.interval(values, count, CONFIDENCE)
        low, high = np.percentile(values, PERCENTILES)
        return float(low), float(high)

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Bootstrapped)
        mean, count = float(self.scores.mean() - other.scores.mean()), self.block_count
        if count == 1:  # one block varies in no way that could be seen
            return Estimate(mean, None, None)
        differences = self.resampled - other.resampled
        low, high = self._percentiles(differences)
        if count is not None:
            return Estimate(mean, low, high, p=block_bootstrap.p_value(differences, count))
        smaller = min((differences <= 0).mean(), (differences >= 0).mean())
        return Estimate(mean, low, high, p=min(1.0, 2 * float(smaller)))


@dataclass(frozen=True)
class Ranked(Bootstrapped):
    """The scores that each seed gave each class of each test tile, and the tiles' classes; the score is the mAP."""

    given: Float[np.ndarray, "seeds tiles classes"]
    truth: Bool[np.ndarray, "tiles classes"]
    blocks: Int[np.ndarray, "tiles"] | None = None

    @cached_property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        return np.array([mean_average_precision(rows, self.truth) for rows in self.given])

    @property
    def tiles(self) -> int:
        return len(self.truth)

    @cached_property
    def resampled(self) -> Float[np.ndarray, "draws"]:
        return resampled(self.given, self.truth, self.blocks)


@dataclass(frozen=True)
class Overlap(Bootstrapped):
    """The overlap of each seed's masks with the true ones, by draw of labels, tile and class; the score is the mIoU.

    Where labels were drawn several times, the score is the mean over draws, and the samples are of draws, too.
    """

    found: Int[np.ndarray, "seeds draws tiles classes 2"]
    truth: Int[np.ndarray, "tiles classes"]
    """True pixels of each class in each tile."""
    blocks: Int[np.ndarray, "tiles"] | None = None

    @cached_property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        return np.array([np.mean([overlap.mean_iou(one, self.truth) for one in draws]) for draws in self.found])

    @property
    def tiles(self) -> int:
        return len(self.truth)

    @cached_property
    def resampled(self) -> Float[np.ndarray, "samples"]:
        return overlap.resampled(self.found, self.truth, self.blocks)


@dataclass(frozen=True)
class Drawn(Result):
    """Whether each seed's classifiers, one for each draw of a few labels, are right; the score is the mean over draws.

    Another draw of labels gives another score, as other test tiles do. So what is called the interval over tiles holds
    both: the two variances of the mean add up, with Welch and Satterthwaite's degrees of freedom.
    """

    right: Bool[np.ndarray, "seeds draws tiles"]
    blocks: Int[np.ndarray, "tiles"] | None = None

    @property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        shares: Float[np.ndarray, " seeds"] = self.right.mean(axis=(1, 2))
        return shares

    @property
    def tiles(self) -> int:
        return self.right.shape[2]

    def interval(self) -> tuple[float, float]:
        found = _over_draws_and_tiles(self.right.mean(axis=0), self.blocks)
        return (0.0, 1.0) if found.low is None or found.high is None else (found.low, found.high)

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Drawn)
        differences = (self.right.astype(np.float64) - other.right.astype(np.float64)).mean(axis=0)
        return _over_draws_and_tiles(differences, self.blocks)


def _over_blocks(values: Float[np.ndarray, "tiles"], of: Int[np.ndarray, "tiles"]) -> Estimate:
    """The mean over tiles with the bootstrap's interval over blocks; one block has none."""
    mean, count = float(values.mean()), len(np.unique(of))
    if count == 1:
        return Estimate(mean, None, None)
    found = block_bootstrap.resampled_means(values, of)
    low, high = block_bootstrap.interval(found, count, CONFIDENCE)
    return Estimate(mean, low, high, p=block_bootstrap.p_value(found, count))


def _over_draws_and_tiles(
    values: Float[np.ndarray, "draws tiles"], of: Int[np.ndarray, "tiles"] | None = None
) -> Estimate:
    """The mean with Student's t interval from two variances: over draws, and over tiles or their blocks."""
    mean = float(values.mean())
    each_tile, each_draw = values.mean(axis=0), values.mean(axis=1)
    margins = [margin for margin in (*([each_tile] if of is None else []), each_draw) if len(margin) > 1]
    variances = [(float(margin.var(ddof=1)) / len(margin), len(margin) - 1) for margin in margins]
    if of is not None:
        count = len(np.unique(of))
        if count == 1:
            return Estimate(mean, None, None)
        variances.append((block_bootstrap.variance(block_bootstrap.resampled_means(each_tile, of), count), count - 1))
    if not variances:
        return Estimate(mean, mean, mean)
    error = math.sqrt(sum(variance for variance, _ in variances))
    if error <= 1e-12 * abs(mean):
        return Estimate(mean, mean, mean, p=0.0 if mean else 1.0)
    freedom = error**4 / sum(variance**2 / free for variance, free in variances)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half, p=float(2 * stats.t.sf(abs(mean) / error, freedom)))


@dataclass(frozen=True)
class Comparison:
    """Score of ``ours`` minus score of ``theirs``, over the same seeds and the same test tiles."""

    measure: str
    """How both were scored, such as: Linear probe."""
    ours: str
    theirs: str
    seeds: Estimate
    tiles: Estimate
    by_seed: list[float]
    tile_count: int
    block_count: int | None = None
    """Number of blocks of test tiles, where the interval is over them."""

    @property
    def seed_count(self) -> int:
        return len(self.by_seed)

    @property
    def difference(self) -> float:
        return self.seeds.mean

    @property
    def outcome(self) -> Outcome:
        if not (self.seeds.excludes_zero and self.tiles.excludes_zero):
            return "not shown"
        return "better" if self.difference > 0 else "worse"

    def sentence(self) -> str:
        """The verdict in words, with the difference, both intervals, and the numbers of seeds and tiles."""
        relation = {
            "better": f"{self.measure}: {self.ours} is better than {self.theirs}",
            "worse": f"{self.measure}: {self.ours} is worse than {self.theirs}",
            "not shown": f"{self.measure}: no difference shown between {self.ours} and {self.theirs}",
        }[self.outcome]
        difference = points(self.difference, self.tile_count)
        blocks = "" if self.block_count is None else f"{counted(self.block_count, 'block')} of "
        tiles = f"over {blocks}{counted(self.tile_count, 'test tile')} {self._between(self.tiles)}"
        if self.seed_count == 1:
            return f"{relation}, {difference} with one seed (95 % interval {tiles}); {seeds_can_show(1)}."
        if self.seed_count < FEW_SEEDS:
            each = ", ".join(signed(value, self.tile_count) for value in self.by_seed)
            return f"{relation}, {difference} (seed by seed {each}; 95 % interval {tiles})."
        seeds = f"over {self.seed_count} seeds {self._between(self.seeds)}"
        return f"{relation}, {difference} (95 % intervals: {seeds}; {tiles})."

    def _between(self, estimate: Estimate) -> str:
        if estimate.low is None or estimate.high is None:
            return "unknown"
        return f"{signed(estimate.low, self.tile_count)} to {signed(estimate.high, self.tile_count)}"

    def as_dict(self) -> dict[str, Any]:
        derived = {"seed_count": self.seed_count, "difference": self.difference, "outcome": self.outcome}
        known = {key: value for key, value in asdict(self).items() if key != "block_count" or value is not None}
        return known | derived | {"sentence": self.sentence()}


def compare(measure: str, ours: str, theirs: str, our_result: Result, their_result: Result) -> Comparison:
    """Paired comparison of two arms.

    Args:
        measure, ours, theirs: names for the sentence.
        our_result, their_result: of the same seeds and the same test tiles, in the same order.
    """
    assert our_result.tiles == their_result.tiles, "paired tiles"
    assert len(our_result.scores) == len(their_result.scores), "paired seeds, or numpy would repeat the shorter"
    by_seed = our_result.scores - their_result.scores
    over_tiles = our_result.over_tiles(their_result)
    each = [float(difference) for difference in by_seed]
    tiles, blocks = our_result.tiles, our_result.block_count
    return Comparison(measure, ours, theirs, mean_interval(by_seed), over_tiles, each, tiles, blocks)


def seeds_can_show(count: int) -> str:
    """What differences a number of seeds can show, in words.

    Student's t interval leaves out zero where the mean exceeds t / sqrt(n) standard deviations.
    """
    if count == 1:
        return "one seed cannot show a difference, because another seed may give another backbone"
    least = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) / math.sqrt(count)
    return (
        f"{count} seeds can show a difference only where it is more than {least:.1f} times its standard deviation "
        f"over seeds"
    )


# ---------------------------------------------------------------- numbers for a reader
