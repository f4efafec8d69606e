"""Schedules against their definitions."""

import math

import pytest

from gcl_custom.schedules import cosine, flat_since, rise_stay_fall, rise_times_cosine, warmup_cosine


def test_a_cosine_falls_from_one_to_zero() -> None:
    assert [cosine(done, 4) for done in range(5)] == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])


def test_schedule_rises_then_falls_by_a_cosine() -> None:
    factors = {step: warmup_cosine(step, 110, 10 / 110) for step in range(110)}
    assert [factors[step] for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1, 1])
    assert factors[60] == pytest.approx(0.5)
    assert factors[85] == pytest.approx((1 + math.cos(0.75 * math.pi)) / 2)
    assert 0 < factors[109] < 1e-3
    assert warmup_cosine(0, 4, warmup=0.0) == 1
    assert warmup_cosine(3, 4, warmup=1.0) == 1


def test_a_rise_times_a_cosine_ends_at_zero_and_stays_below_the_peak() -> None:
    shares = {0.0: 0.0, 0.01: 0.5, 0.5: 0.5, 1.0: 0.0}
    assert [rise_times_cosine(share, 0.02) for share in shares] == pytest.approx(list(shares.values()), abs=1e-3)
    highest = max(rise_times_cosine(step / 1000, 0.02) for step in range(1001))
    assert highest == pytest.approx((1 + math.cos(math.pi * 0.02)) / 2)


def test_it_rises_stays_and_falls_over_the_last_share() -> None:
    factors = [rise_stay_fall(step, 100, rising=10, falling=0.2) for step in range(100)]
    assert [factors[step] for step in (0, 4, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0.05])
    assert max(factors) == 1


def test_a_run_that_turns_out_shorter_while_its_rate_is_at_its_highest_has_no_jump() -> None:
    assert rise_stay_fall(39, 3000, rising=10, falling=0.2) == 1
    assert [rise_stay_fall(step, 50, rising=10, falling=0.2) for step in (40, 45, 49)] == pytest.approx([1, 0.5, 0.1])


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ([(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)], None),
        ([(1, 5.0), (2, 4.0), (3, 4.0), (4, 4.0)], 4),  # at 3 the best of the first half was 5
        ([(1, 5.0), (2, 4.0), (3, 3.995), (4, 3.5)], None),
        ([(2, 3.0), (3, 3.2), (4, 3.1), (8, 2.5)], 4),  # nobody knows then that it will fall again
        ([(7, 1.0)], None),
        ([], None),
    ],
)
def test_a_loss_is_flat_where_the_best_one_hardly_fell_in_the_last_share(
    losses: list[tuple[int, float]], flat: int | None
) -> None:
    assert flat_since(losses, share=0.5, least=0.01) == flat


def test_a_loss_that_falls_with_the_logarithm_of_time_is_never_flat() -> None:
    """By the same amount in each doubling: whatever is asked for, it is reached at all times, or never."""
    losses = [(epoch, -0.1 * math.log(epoch)) for epoch in range(1, 1000)]
    fall = 0.1 * math.log(1 / 0.75)
    assert flat_since(losses, 0.25, 0.99 * fall) is None
    assert flat_since(losses, 0.25, 2 * fall) == 3  # from 1 to 2 it falls by more, from 2 to 3 by less


def test_what_was_decided_does_not_change_as_a_run_goes_on() -> None:
    losses = [(epoch, 4 + 1 / epoch) for epoch in range(1, 80)]
    found = [flat_since(losses[:number], 0.25, 0.01) for number in range(80)]
    first = next(time for time in found if time is not None)
    assert found == [None] * first + [first] * (80 - first)
