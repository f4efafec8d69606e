import pytest

from gcl_custom.counted import counted, either, examples, percent, points


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 tiles"), (1, "1 tile"), (2, "2 tiles"), (1200, "1,200 tiles"), (21, "21 tiles")]
)
def test_a_number_agrees_with_what_it_counts(count: int, shown: str) -> None:
    assert counted(count, "tile") == shown


def test_other_plurals_and_verbs_are_given() -> None:
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [either(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]


def test_of_many_names_three_are_shown() -> None:
    assert examples(["a", "b", "c"]) == "a, b, c"
    assert examples(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert examples([]) == ""


def test_figures_have_as_many_decimals_as_the_tiles_carry() -> None:
    assert percent(0.78256, 200) == "78.3\N{NO-BREAK SPACE}%"
    assert percent(0.78256, 199) == "78\N{NO-BREAK SPACE}%"
    assert [points(d, 500) for d in (0.0123, -0.0123, 0.0004)] == ["+1.2 points", "−1.2 points", "0.0 points"]
    assert [points(d, 100) for d in (0.01, -0.012, 0.03, 0.001)] == ["+1 point", "−1 point", "+3 points", "0 points"]
