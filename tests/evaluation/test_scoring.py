import pytest

from gcl_custom.evaluation.scoring import best_rate, table


def test_best_validation_score_wins_and_ties_go_to_the_lower_rate() -> None:
    assert best_rate([1e-2, 1e-4, 1e-3], {1e-4: 0.5, 1e-3: 0.9, 1e-2: 0.7}.__getitem__) == 1e-3
    assert best_rate([1e-2, 1e-3, 1e-4], {1e-4: 0.8, 1e-3: 0.9, 1e-2: 0.9}.__getitem__) == 1e-3


def test_a_single_rate_is_not_tried_out() -> None:
    assert best_rate([1e-3], lambda rate: pytest.fail("nothing to choose from")) == 1e-3


def test_every_column_of_any_backbone_is_in_the_table() -> None:
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "interval": "tiles", "seeds": {"0": 0.45, "1": 0.55}}
    given = {"a": {"knn": score, "finetune@all": score}, "b": {"linear": score}}
    shown = table(given, {"a": "A", "b": "B"}, "", tiles=500)
    assert [column.header for column in shown.columns] == ["", "linear probe", "kNN", "all labels"]
    assert [str(cell) for cell in shown.columns[1].cells] == ["", "50.0\n40.0–60.0\n45.0, 55.0"]
