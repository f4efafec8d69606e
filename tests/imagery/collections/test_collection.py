import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import in_words, row_name


def test_numbers_become_names_where_these_are_given() -> None:
    assert in_words([[1], None, [0], [-1]], ["land", "water"]) == (
        ["water", None, "land", None],
        ["land", "water"],
        False,
    )
    with pytest.raises(UserError, match="label 2 has no name: there are 2"):
        in_words([[2]], ["land", "water"])


def test_numbers_without_names_are_in_the_order_of_numbers() -> None:
    assert in_words([[10], [9], [0]], None) == (["10", "9", "0"], ["0", "9", "10"], False)


def test_names_are_in_the_order_of_the_alphabet_and_several_labels_are_told() -> None:
    assert in_words([["b"], ["a;c"]], None) == (["b", "a;c"], ["a;c", "b"], False)
    assert in_words([["b", "a;c"], ["d"], []], None) == (["b;a,c", "d", None], ["a,c", "b", "d"], True)


def test_rows_sort_by_number() -> None:
    assert sorted(map(row_name, (10, 9, 100))) == ["0000009", "0000010", "0000100"]
