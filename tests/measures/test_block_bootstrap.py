import math

import numpy as np
import pytest
from scipy import stats

from gcl_custom.measures import block_bootstrap
from gcl_custom.measures.statistics import Drawn, Ranked, Right, compare

TILES = 400


def said(seed: int = 0, share: float = 0.8) -> np.ndarray:
    return np.random.default_rng(seed).random((1, TILES)) < share


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_blocks_of_one_tile_are_the_bootstrap_of_tiles() -> None:
    """In law: the same quantiles, up to the noise of the draws and the widening for 400 blocks."""
    right = said()[0].astype(np.float64)
    rng = np.random.default_rng(1)
    plain = right[rng.integers(0, TILES, (4000, TILES))].mean(axis=1)
    found = block_bootstrap.resampled_means(right, np.arange(TILES))
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(found, share) == pytest.approx(np.quantile(plain, share), abs=0.004)
    assert found.std() == pytest.approx(plain.std(), rel=0.05)
    alone = Right(said(), blocks=np.arange(TILES)).interval()
    assert width(alone) == pytest.approx(width(Right(said()).interval()), rel=0.06)


@pytest.mark.parametrize("each", [4, 10])
def test_tiles_that_say_the_same_are_worth_one(each: int) -> None:
    """With blocks of k equal tiles the interval is wider by the root of k, but for what few blocks add."""
    right = np.repeat(np.random.default_rng(2).random((1, TILES)) < 0.7, each, axis=1)
    of = np.repeat(np.arange(TILES), each)
    alone, together = Right(right).interval(), Right(right, blocks=of).interval()
    assert width(together) / width(alone) == pytest.approx(math.sqrt(each), rel=0.06)
    difference = Right(right, blocks=of).over_tiles(Right(np.roll(right, 7 * each, axis=1), blocks=of))
    paired = Right(right).over_tiles(Right(np.roll(right, 7 * each, axis=1)))
    assert (difference.high - difference.low) / (paired.high - paired.low) == pytest.approx(  # type: ignore[operator]
        math.sqrt(each), rel=0.06
    )


def test_intervals_of_few_unlike_blocks_cover_as_often_as_they_say() -> None:
    """Twelve blocks whose shares vary: 95 % of the intervals hold the true mean; those over tiles do so far less."""
    rng = np.random.default_rng(3)
    covered = {"blocks": 0, "tiles": 0}
    for _ in range(300):
        level = rng.normal(0.6, 0.15, 12).clip(0, 1)
        of = np.repeat(np.arange(12), 30)
        right = (rng.random(360) < level[of])[None]
        for name, interval in (("blocks", Right(right, blocks=of).interval()), ("tiles", Right(right).interval())):
            covered[name] += interval[0] <= 0.6 <= interval[1]
    assert 0.92 <= covered["blocks"] / 300 <= 0.985
    assert covered["tiles"] / 300 < 0.8


def test_expanded_percentiles_are_students_t_of_a_normal_law() -> None:
    """A. Quantiles of a normal law, taken where few blocks ask for, span t times the deviation of their mean."""
    count, normal = 8, stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    low, high = block_bootstrap.interval(normal * math.sqrt((count - 1) / count), count, 0.95)
    assert (-low, high) == pytest.approx([float(stats.t.ppf(0.975, count - 1))] * 2, rel=1e-3)


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_out_zero() -> None:
    rng = np.random.default_rng(4)
    outcomes = set()
    for _ in range(60):
        of = np.repeat(np.arange(15), 10)
        values = rng.normal(rng.choice([0, 0.5]), 1, 15)[of] + rng.normal(0, 0.3, 150)
        found = block_bootstrap.resampled_means(values, of)
        low, high = block_bootstrap.interval(found, 15, 0.95)
        p = block_bootstrap.p_value(found, 15)
        if abs(p - 0.05) > 0.01:
            assert (p < 0.05) == (low > 0 or high < 0)
            outcomes.add(p < 0.05)
    assert outcomes == {True, False}


def test_one_block_shows_nothing() -> None:
    of = np.zeros(TILES, dtype=np.int64)
    low, high = Right(said(), blocks=of).interval()
    assert high - low > 0.6
    found = compare("kNN", "a", "b", Right(said(), blocks=of), Right(~said(), blocks=of))
    assert found.tiles.low is None
    assert found.outcome == "not shown"
    drawn = Drawn(said()[:, None].repeat(3, axis=1), blocks=of)
    assert drawn.interval() == (0, 1)


def test_where_all_are_right_the_blocks_still_bound_the_share() -> None:
    of = np.repeat(np.arange(20), 20)
    low, high = Right(np.ones((1, TILES), dtype=bool), blocks=of).interval()
    assert (low, high) == pytest.approx((0.839, 1.0), abs=1e-3), "Wilson's of 20 of 20"


def test_draws_of_labels_add_to_blocks() -> None:
    """With all draws alike, only the blocks vary; with blocks alike, only the draws."""
    of = np.repeat(np.arange(40), 10)
    level = np.random.default_rng(5).random(40) < 0.7
    same = np.broadcast_to(level[of], (1, 6, TILES))
    alone = Right(same[:, 0], blocks=of).interval()
    assert Drawn(same, blocks=of).interval() == pytest.approx(alone, abs=0.02)
    varied = np.random.default_rng(6).random((1, 6, 1)) < np.full((1, 6, TILES), 0.5)
    low, high = Drawn(varied, blocks=of).interval()
    margin = varied.mean(axis=(0, 2))
    half = float(stats.t.ppf(0.975, 5)) * margin.std(ddof=1) / math.sqrt(6)
    assert (high - low) / 2 == pytest.approx(half)


def test_map_is_resampled_by_blocks_too() -> None:
    rng = np.random.default_rng(7)
    truth = rng.random((60, 3)) < 0.4
    truth[0] = True
    given = (truth + rng.normal(0, 0.8, (60, 3)))[None]
    each = 6
    copies = Ranked(given.repeat(each, axis=1), truth.repeat(each, axis=0), np.repeat(np.arange(60), each))
    alone = Ranked(given, truth, np.arange(60))
    assert copies.interval() == pytest.approx(alone.interval()), "six copies of each tile bring nothing"
    assert width(Ranked(copies.given, copies.truth).interval()) < 0.6 * width(copies.interval())


def test_a_comparison_says_what_its_interval_is_over() -> None:
    of = np.repeat(np.arange(40), 10)
    found = compare("kNN", "a", "b", *(Right(said(seed, share), blocks=of) for seed, share in ((0, 0.9), (1, 0.5))))
    assert "95 % interval over 40 blocks of 400 test tiles +" in found.sentence()
    assert found.as_dict()["block_count"] == 40
    assert "block_count" not in compare("kNN", "a", "b", Right(said()), Right(said(1))).as_dict()
