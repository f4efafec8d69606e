from typing import Any

import pytest

from gcl_custom.evaluation.score_texts import (
    above,
    how_over_tiles,
    interval_text,
    mean_text,
    of_draws,
    of_floors,
    of_probes,
    over,
    seeds_text,
)


def score(interval: str = "tiles", **seeds: float) -> dict[str, Any]:
    return {"mean": 0.7021, "low": 0.6512, "high": 0.7549, "interval": interval, "seeds": seeds}


def test_few_test_tiles_carry_no_decimals() -> None:
    assert (mean_text(score(), 200), interval_text(score(), 200)) == ("70.2", "65.1–75.5")
    assert (mean_text(score(), 199), interval_text(score(), 199)) == ("70", "65–75")


def test_seeds_stand_one_by_one_where_no_interval_is_over_them() -> None:
    two = {"0": 0.7, "1": 0.705}
    assert seeds_text(score(**two), 500) == "70.0, 70.5"
    assert seeds_text(score("seeds", **two), 500) == ""
    assert seeds_text(score(every=0.7), 500) == ""


def test_what_intervals_are_over_is_said_in_words() -> None:
    def of(count: int, interval: str) -> str:
        return over({"seeds": list(range(count)), "scores": {"gcl": {"linear": score(interval)}}})

    assert of(6, "seeds") == "over 6 seeds"
    assert of(1, "tiles") == "over test tiles"
    assert of(3, "tiles") == "over test tiles, and the scores of the 3 seeds one by one"


def test_warnings_come_before_grounds_and_kept_results_may_have_neither() -> None:
    assert above({"warnings": ["w"], "grounds": ["g"]}) == ["w", "g"]
    assert above({}) == []


@pytest.mark.parametrize(("measure", "probes", "floors"), [("top-1", "kNN", "patches"), ("mIoU", "map", "a pixel")])
def test_probes_and_floors_are_said_for_each_kind_of_label(measure: str, probes: str, floors: str) -> None:
    scores = {"measure": measure}
    assert probes in of_probes(scores)
    assert floors in of_floors(scores)


def test_texts_say_that_blocks_were_resampled() -> None:
    scores = {"measure": "top-1", "test_blocks": 12, "seeds": [0], "scores": {"a": {"knn": score("blocks", a=0.5)}}}
    assert over(scores) == "over 12 blocks of test tiles"
    assert of_floors(scores).endswith("their intervals are over 12 blocks of test tiles.")
    assert "over 12 blocks of test tiles, it is over draws" in of_draws(scores)
    assert how_over_tiles(scores) == "bootstrap, the tiles of a block together"
    assert how_over_tiles({"measure": "top-1"}) == "Wilson"
    assert seeds_text(score("blocks", a=0.5, b=0.25), 100) == "50, 25"
