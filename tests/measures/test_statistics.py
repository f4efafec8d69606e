import math

import numpy as np
import pytest
from scipy import stats

from gcl_custom.measures import average_precision
from gcl_custom.measures.statistics import Drawn, Ranked, Right, compare, mean_interval, seeds_can_show, wilson


def test_interval_is_students_t_in_closed_form() -> None:
    # Three values 1, 2, 3: mean 2, deviation 1, and t(0.975, 2 degrees of freedom) = sqrt(2 · 0.95² / (1 − 0.95²)).
    t = math.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.mean == 2
    assert estimate.low == pytest.approx(2 - t / math.sqrt(3))
    assert estimate.high == pytest.approx(2 + t / math.sqrt(3))


def test_interval_of_differences_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    expected = stats.ttest_rel(ours, theirs)
    estimate = mean_interval(ours - theirs)
    assert estimate.p == pytest.approx(expected.pvalue)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_p_is_below_5_percent_exactly_when_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        estimate = mean_interval(rng.normal(1, 1, 5))
        assert estimate.p is not None
        assert estimate.excludes_zero == (estimate.p < 0.05)


def test_one_value_has_no_interval_and_equal_values_one_without_width() -> None:
    assert mean_interval([0.7]).low is None
    assert not mean_interval([0.7]).excludes_zero
    assert mean_interval([0.1 + 0.2] * 3 + [0.3]).low == pytest.approx(0.3)
    assert mean_interval([0.0, 0.0]).p == 1
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


@pytest.mark.parametrize(("right", "tiles"), [(0, 10), (3, 10), (10, 10), (999, 1000)])
def test_wilson_agrees_with_scipy(right: int, tiles: int) -> None:
    expected = stats.binomtest(right, tiles).proportion_ci(0.95, method="wilson")
    assert wilson(right, tiles) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


def right(shares: list[float], tiles: int = 1000) -> Right:
    """Seeds by tiles: the first tiles of each seed are right."""
    return Right(np.arange(tiles)[None] < np.asarray(shares)[:, None] * tiles)


def test_a_clear_difference_is_shown_in_both_directions() -> None:
    better, worse = right([0.90, 0.91, 0.92]), right([0.80, 0.81, 0.81])
    assert compare("kNN", "GCL", "the baseline", better, worse).outcome == "better"
    flipped = compare("kNN", "GCL", "the baseline", worse, better)
    assert flipped.outcome == "worse"
    assert flipped.sentence().startswith(
        "kNN: GCL is worse than the baseline, −10.3 points (seed by seed −10.0, −10.0, −11.0; 95 % interval over 1,000"
    )
    assert "over 1,000 test tiles" in flipped.sentence()


def test_what_holds_over_tiles_only_is_not_shown() -> None:
    # Many tiles agree that the mean is higher, but one of the seeds went the other way.
    comparison = compare("kNN", "GCL", "it", right([0.90, 0.95, 0.79]), right([0.80, 0.80, 0.80]))
    assert comparison.tiles.excludes_zero
    assert not comparison.seeds.excludes_zero
    assert comparison.outcome == "not shown"
    assert comparison.sentence().startswith("kNN: no difference shown between GCL and it, +8.0 points")


def test_what_holds_over_seeds_only_is_not_shown() -> None:
    # Every seed is better by one and the same tile: sure for these tiles, and no evidence for others.
    comparison = compare("kNN", "GCL", "it", right([0.805, 0.804, 0.805], 200), right([0.80, 0.80, 0.80], 200))
    assert comparison.seeds.excludes_zero
    assert not comparison.tiles.excludes_zero
    assert comparison.outcome == "not shown"


def test_one_seed_never_shows_a_difference() -> None:
    comparison = compare("kNN", "GCL", "it", right([0.99]), right([0.01]))
    assert comparison.outcome == "not shown"
    assert "one seed cannot show a difference" in comparison.sentence()
    assert comparison.as_dict()["seeds"]["low"] is None


def test_equal_arms_rarely_look_different() -> None:
    """The rate of false alarms of the verdict stays below that of each interval alone, 5 %."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(400):
        skill = rng.beta(2, 1, 300)
        ours, theirs = (Right(rng.random((3, 300)) < skill) for _ in range(2))
        alarms += compare("kNN", "a", "b", ours, theirs).outcome != "not shown"
    assert alarms / 400 < 0.05


def test_five_seeds_have_an_interval_over_them() -> None:
    better, worse = right([0.90, 0.91, 0.92, 0.90, 0.91]), right([0.80] * 5)
    sentence = compare("kNN", "GCL", "it", better, worse).sentence()
    assert "+10.8 points (95 % intervals: over 5 seeds +9.8 to +11.8; over 1,000 test tiles" in sentence


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_seeds_show_a_difference_beyond_the_stated_multiple_of_their_deviation(count: int) -> None:
    said = seeds_can_show(count)
    least = float(said.split(" times")[0].split()[-1])
    sample = np.arange(count, dtype=float)
    sample = (sample - sample.mean()) / sample.std(ddof=1)
    assert said.startswith(f"{count} seeds")
    assert not mean_interval(sample + least - 0.05).excludes_zero
    assert mean_interval(sample + least + 0.05).excludes_zero


def test_seeds_that_are_right_on_the_same_tiles_are_worth_one_and_others_as_many_as_they_are() -> None:
    """Wilson's interval over tiles of several seeds, by a normal approximation of the means of tiles."""
    rng = np.random.default_rng(0)
    one = rng.random(4000) < 0.7
    same, single = Right(np.stack([one] * 3)), Right(one[None])
    assert same.interval() == pytest.approx(single.interval(), abs=1e-9)
    other = Right(rng.random((3, 4000)) < 0.7)
    low, high = other.interval()
    half = 1.96 * other.right.mean(axis=0).std() / 4000**0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.01)
    assert Right(np.array([[True, False], [False, True]])).interval() == pytest.approx(wilson(1, 2))


def ranked(rng: np.random.Generator, skill: float, truth: np.ndarray, seeds: int = 3) -> Ranked:
    """Scores that tell the labels apart by ``skill`` deviations."""
    return Ranked(skill * truth + rng.normal(size=(seeds, *truth.shape)), truth)


def labels_of(rng: np.random.Generator, tiles: int) -> np.ndarray:
    return rng.random((tiles, 3)) < np.array([0.5, 0.2, 0.1])


def test_map_of_a_clear_difference_is_shown() -> None:
    rng = np.random.default_rng(0)
    truth = labels_of(rng, 200)
    found = compare("Linear probe", "a", "b", ranked(rng, 2.0, truth), ranked(rng, 1.0, truth))
    assert found.outcome == "better"
    assert found.difference == pytest.approx(found.tiles.mean)
    assert found.tiles.low is not None
    assert found.tiles.high is not None
    assert found.tiles.low < found.difference < found.tiles.high


def test_map_of_equal_predictions_differs_nowhere() -> None:
    rng = np.random.default_rng(0)
    one = ranked(rng, 1.0, labels_of(rng, 50))
    found = compare("kNN", "a", "b", one, Ranked(one.given, one.truth))
    assert (found.tiles.low, found.tiles.high, found.tiles.p) == (0, 0, 1)
    assert found.outcome == "not shown"


def test_bootstrap_over_tiles_rarely_calls_equal_classifiers_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classifiers of one skill on fresh tiles: the 95 % interval leaves zero out in about 5 % of the trials."""
    monkeypatch.setattr(average_precision, "DRAWS", 200)
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        truth = labels_of(rng, 100)
        alarms += ranked(rng, 1.0, truth, 1).over_tiles(ranked(rng, 1.0, truth, 1)).excludes_zero
    assert alarms <= 11  # 5 expected; more than 11 happens once in 200


def test_a_score_of_draws_is_their_mean_and_its_interval_holds_draws_and_tiles() -> None:
    rng = np.random.default_rng(0)
    skill = np.array([0.5, 0.6, 0.7, 0.4])[:, None]
    drawn = Drawn((rng.random((4, 500)) < skill)[None])
    assert drawn.scores == pytest.approx(drawn.right.mean())
    assert drawn.tiles == 500
    per_draw, per_tile = drawn.right[0].mean(1), drawn.right[0].mean(0)
    by_draw, by_tile = per_draw.var(ddof=1) / 4, per_tile.var(ddof=1) / 500
    freedom = (by_draw + by_tile) ** 2 / (by_draw**2 / 3 + by_tile**2 / 499)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(by_draw + by_tile)
    mean = drawn.right.mean()
    assert drawn.interval() == pytest.approx((mean - half, mean + half))
    low, high = mean_interval(per_tile).low, mean_interval(per_tile).high
    assert low is not None
    assert high is not None
    assert half > high - mean, "tiles alone give too narrow an interval"


def test_draws_are_paired_so_what_makes_a_draw_hard_for_both_does_not_count() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random((6, 400)) < np.linspace(0.2, 0.8, 6)[:, None]
    ours, theirs = hard.copy(), hard.copy()
    ours[:, :40], theirs[:, :40] = True, False
    found = compare("1 label a class", "a", "b", Drawn(ours[None]), Drawn(theirs[None]))
    assert found.difference == pytest.approx(0.1)
    assert found.tiles.excludes_zero
    one = compare("1 label a class", "a", "b", Drawn(hard[None, :1]), Drawn(hard[None, :1]))
    assert (one.tiles.mean, one.tiles.p) == (0, 1)
