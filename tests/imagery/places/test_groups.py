import numpy as np
import pytest

from gcl_custom.imagery.places.groups import divide_groups

SHARES = (0.7, 0.15, 0.15)


def tiles(seed: int = 0, groups: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Groups of very different sizes, each mostly of one class, as places are."""
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(0.05, groups)
    of = np.repeat(np.arange(groups), sizes)
    main = rng.integers(0, classes, groups)
    strata = np.where(rng.random(len(of)) < 0.8, main[of], rng.integers(0, classes, len(of)))
    return of, strata


def names(count: int) -> list[str]:
    return [f"{number},0" for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_for_every_class_and_all_tiles(seed: int) -> None:
    of, strata = tiles(seed)
    split = divide_groups(names(60), of, strata, SHARES, seed)[of]
    assert np.bincount(split, minlength=3) / len(of) == pytest.approx(SHARES, abs=0.02)
    for label in range(4):
        own = split[strata == label]
        assert np.bincount(own, minlength=3) / len(own) == pytest.approx(SHARES, abs=0.05)


def test_a_division_depends_on_seed_and_names_only() -> None:
    of, strata = tiles()
    found = divide_groups(names(60), of, strata, SHARES, 0)
    order = np.random.default_rng(1).permutation(len(of))
    assert divide_groups(names(60), of[order], strata[order], SHARES, 0).tolist() == found.tolist()
    others = [divide_groups(names(60), of, strata, SHARES, seed) for seed in (1, 2)]
    assert all((other != found).mean() > 0.2 for other in others)


def test_a_class_of_few_groups_is_for_training_first_and_in_every_split_where_it_can() -> None:
    of = np.repeat(np.arange(30), 10)
    strata = np.zeros(300, dtype=np.int64)
    strata[of == 3] = 1  # one group
    strata[np.isin(of, [7, 11, 20])] = 2  # three groups
    for seed in range(10):
        split = divide_groups(names(30), of, strata, SHARES, seed)
        assert split[3] == 0
        assert sorted(split[[7, 11, 20]]) == [0, 1, 2]


def test_no_split_is_empty_even_with_three_groups() -> None:
    of = np.array([0] * 90 + [1] * 5 + [2] * 5)
    for seed in range(10):
        assert sorted(divide_groups(names(3), of, np.full(100, -1), SHARES, seed)) == [0, 1, 2]


def test_two_splits_alone() -> None:
    of, strata = tiles()
    split = divide_groups(names(60), of, strata, (0.8, 0.2), 0)[of]
    assert np.bincount(split) / len(of) == pytest.approx((0.8, 0.2), abs=0.02)
