"""What scores can show: intervals, and paired tests with a verdict in words.

A score varies for two reasons: another seed trains another backbone, and another sample of test tiles scores it
differently. Each reason has its own paired interval, and a difference is *shown* only when both intervals exclude zero:

    over seeds   Student's t on the differences of the seeds' scores (the test tiles held fixed)
    over tiles   Student's t on the differences of the tiles' correctness, averaged over seeds (the seeds held fixed)

mAP is not a mean over tiles, so its interval over tiles is the paired bootstrap's: from the 2.5th to the 97.5th
percentile of the differences on resampled tiles.

Requiring both is stricter than either test alone. Each interval covers 95 % by itself, so a single test would find a
difference in one of twenty comparisons of equal arms.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from gcl_custom.measures.average_precision import mean_average_precision, resampled

CONFIDENCE = 0.95
PERCENTILES = (100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2)

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


def wilson(right: int, tiles: int) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927), which is also sound near 0 and 1."""
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

    @abstractmethod
    def interval(self) -> tuple[float, float]:
        """The interval of the score over test tiles."""

    @abstractmethod
    def over_tiles(self, other: "Result") -> Estimate:
        """This score minus another one's, with its paired interval over test tiles."""


@dataclass(frozen=True)
class Right(Result):
    """Whether each seed classified each test tile correctly; the score is the share of correct tiles."""

    right: Bool[np.ndarray, "seeds tiles"]

    @property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        shares: Float[np.ndarray, " seeds"] = self.right.mean(axis=1)
        return shares

    @property
    def tiles(self) -> int:
        return self.right.shape[1]

    def interval(self) -> tuple[float, float]:
        return wilson(int(self.right.sum()), self.right.size)

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Right)
        return mean_interval((self.right.astype(np.float64) - other.right.astype(np.float64)).mean(axis=0))


@dataclass(frozen=True)
class Ranked(Result):
    """The scores that each seed gave each class of each test tile, and the tiles' classes; the score is the mAP."""

    given: Float[np.ndarray, "seeds tiles classes"]
    truth: Bool[np.ndarray, "tiles classes"]

    @cached_property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        return np.array([mean_average_precision(rows, self.truth) for rows in self.given])

    @property
    def tiles(self) -> int:
        return len(self.truth)

    @cached_property
    def _resampled(self) -> Float[np.ndarray, "draws"]:
        return resampled(self.given, self.truth)

    def interval(self) -> tuple[float, float]:
        low, high = np.percentile(self._resampled, PERCENTILES)
        return float(low), float(high)

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Ranked)
        differences = self._resampled - other._resampled
        low, high = np.percentile(differences, PERCENTILES)
        smaller = min((differences <= 0).mean(), (differences >= 0).mean())
        mean = float(self.scores.mean() - other.scores.mean())
        return Estimate(mean, float(low), float(high), p=min(1.0, 2 * float(smaller)))


@dataclass(frozen=True)
class Drawn(Result):
    """Whether each seed's classifiers, one for each draw of a few labels, are right; the score is the mean over draws.

    Another draw of labels gives another score, as other test tiles do. So what is called the interval over tiles holds
    both: the two variances of the mean add up, with Welch and Satterthwaite's degrees of freedom.
    """

    right: Bool[np.ndarray, "seeds draws tiles"]

    @property
    def scores(self) -> Float[np.ndarray, "seeds"]:
        shares: Float[np.ndarray, " seeds"] = self.right.mean(axis=(1, 2))
        return shares

    @property
    def tiles(self) -> int:
        return self.right.shape[2]

    def interval(self) -> tuple[float, float]:
        found = _over_draws_and_tiles(self.right.mean(axis=0))
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    def over_tiles(self, other: Result) -> Estimate:
        assert isinstance(other, Drawn)
        return _over_draws_and_tiles((self.right.astype(np.float64) - other.right.astype(np.float64)).mean(axis=0))


def _over_draws_and_tiles(values: Float[np.ndarray, "draws tiles"]) -> Estimate:
    mean = float(values.mean())
    margins = [margin for axis in (0, 1) if len(margin := values.mean(axis=axis)) > 1]
    if not margins:
        return Estimate(mean, mean, mean)
    variances = [float(margin.var(ddof=1)) / len(margin) for margin in margins]
    error = math.sqrt(sum(variances))
    if error <= 1e-12 * abs(mean):
        return Estimate(mean, mean, mean, p=0.0 if mean else 1.0)
    shares = sum(v**2 / (len(margin) - 1) for v, margin in zip(variances, margins, strict=True))
    freedom = error**4 / shares
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
    seed_count: int
    tile_count: int

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
        tiles = f"over {self.tile_count:,} test tiles {points_between(self.tiles)}"
        if self.seed_count == 1:
            return (
                f"{relation}, {points(self.difference)} with one seed (95 % interval {tiles}); "
                "one seed cannot show a difference, because another seed may give another backbone."
            )
        seeds = f"over {self.seed_count} seeds {points_between(self.seeds)}"
        return f"{relation}, {points(self.difference)} (95 % intervals: {seeds}; {tiles})."

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"difference": self.difference, "outcome": self.outcome, "sentence": self.sentence()}


def compare(measure: str, ours: str, theirs: str, our_result: Result, their_result: Result) -> Comparison:
    """Paired comparison of two arms.

    Args:
        measure, ours, theirs: names for the sentence.
        our_result, their_result: of the same seeds and the same test tiles, in the same order.
    """
    assert our_result.tiles == their_result.tiles, "paired tiles"
    assert len(our_result.scores) == len(their_result.scores), "paired seeds, or numpy would repeat the shorter"
    over_seeds = mean_interval(our_result.scores - their_result.scores)
    over_tiles = our_result.over_tiles(their_result)
    return Comparison(measure, ours, theirs, over_seeds, over_tiles, len(our_result.scores), our_result.tiles)


def points(difference: float) -> str:
    """A difference of two scores, in percentage points with its sign."""
    return f"{_signed(difference)} points"


def points_between(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "unknown"
    return f"{_signed(estimate.low)} to {_signed(estimate.high)}"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")
