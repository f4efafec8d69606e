import pytest

from gcl_custom.evaluation.curves import Training, kept_training, noise, rise, unsettled


def training(*scores: float, most: int | None = None, tiles: int = 400) -> Training:
    """One score every ten steps."""
    curve = [(10 * (place + 1), score) for place, score in enumerate(scores)]
    steps = 10 * len(scores)
    return Training(valid=max(scores), steps=steps, most_steps=most or steps, curve=curve, valid_tiles=tiles)


def test_rise_is_what_the_last_third_of_the_steps_brought() -> None:
    assert rise(training(0.2, 0.6, 0.5, 0.5, 0.7, 0.65)) == pytest.approx(0.1)
    assert rise(training(0.2, 0.6, 0.5, 0.5, 0.4, 0.55)) == pytest.approx(-0.05)


def test_after_an_early_end_nothing_rises() -> None:
    assert rise(training(0.2, 0.3, 0.9, most=60)) == 0


def test_a_score_or_two_do_not_tell() -> None:
    assert rise(training(0.9)) is None
    assert "too few validation scores" in (unsettled([training(0.9)]) or "")
    assert unsettled([]) is not None, "a training that is not known"


def test_noise_is_the_standard_error_of_a_share() -> None:
    assert noise(training(0.8, tiles=400)) == pytest.approx(0.02)
    assert noise(training(1.0)) == 0


def test_a_gain_within_noise_has_levelled_off_and_one_beyond_has_not() -> None:
    assert unsettled([training(0.5, 0.79, 0.79, 0.8)]) is None
    assert unsettled([training(0.5, 0.6, 0.7, 0.8)]) == (
        "the last third of its 40 steps still raised its validation score by 20.0 points"
    )


def test_the_gain_is_the_mean_over_seeds() -> None:
    flat, rising = training(0.5, 0.8, 0.8, 0.8), training(0.5, 0.77, 0.78, 0.8)
    assert unsettled([rising]) is not None
    assert unsettled([flat, rising]) is None


def test_what_is_said_of_tiles_is_not_kept_with_a_training() -> None:
    one = training(0.5, 0.6)
    assert kept_training({**one, "test": [1, 2, 3]}) == one
