from typing import Any

import pytest

from gcl_custom.evaluation.score_texts import above, interval_text, mean_text, notes, of_probes, over, seeds_text


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


def test_warnings_come_before_grounds_and_older_scores_have_neither() -> None:
    assert above({"warnings": ["w"], "grounds": ["g"]}) == ["w", "g"]
    assert above({}) == []


@pytest.mark.parametrize(("measure", "probes", "floors"), [("top-1", "kNN", "patches"), ("mIoU", "map", "a pixel")])
def test_probes_and_floors_are_said_for_each_kind_of_label(measure: str, probes: str, floors: str) -> None:
    scores = {"measure": measure}
    assert probes in of_probes(scores)
    assert floors in notes(scores)[1]
