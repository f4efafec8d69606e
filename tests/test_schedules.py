"""Schedules against their definitions."""

import math

import pytest

from gcl_custom.schedules import cosine, rise_times_cosine, warmup_cosine


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
