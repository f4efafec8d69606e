import pytest
from rich.console import Console

from gcl_custom.evaluation.scoring import best_rate, tables


def test_best_validation_score_wins_and_ties_go_to_the_lower_rate() -> None:
    assert best_rate([1e-2, 1e-4, 1e-3], {1e-4: 0.5, 1e-3: 0.9, 1e-2: 0.7}.__getitem__) == 1e-3
    assert best_rate([1e-2, 1e-3, 1e-4], {1e-4: 0.8, 1e-3: 0.9, 1e-2: 0.9}.__getitem__) == 1e-3


def test_a_single_rate_is_not_tried_out() -> None:
    assert best_rate([1e-3], lambda rate: pytest.fail("nothing to choose from")) == 1e-3


def printed(width: int) -> str:
    """Tables of two backbones, of which none has a score in every column."""
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "interval": "tiles", "seeds": {"0": 0.45, "1": 0.55}}
    given = {"first": {"knn": score, "finetune@all": score}, "second": {"linear": score}}
    console = Console(width=width)
    with console.capture() as shown:
        console.print(tables(given, {"first": "First", "second": "Second"}, "The note.", tiles=500, width=width))
    return shown.get()


def test_every_column_of_any_backbone_is_in_the_table() -> None:
    text = printed(width=80)
    assert [word for word in ("linear probe", "kNN", "all labels") if word not in text] == []
    assert text.count("50.0") == 3
    assert text.count("45.0, 55.0") == text.count("40.0\N{EN DASH}60.0") == 3
    assert text.count("Second") == 1


def test_a_narrow_terminal_gets_a_table_after_another_and_the_note_once() -> None:
    text = printed(width=24)
    assert text.count("First") == 2, "kNN and all labels, a table each"
    assert text.count("45.0, 55.0") == 3
    assert text.count("The note.") == 1
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
