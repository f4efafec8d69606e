"""What does not fit together in the section of the imagery is refused."""

import pytest

from gcl_custom.errors import RecipeError
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.imagery import DataSettings, SplitSettings
from gcl_custom.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "data.root: missing"),
        ({"root": 5}, "data.root: given 5"),
        ({"root": "x", "size": 60}, "data.size: given 60; .*multiple of 8"),
        ({"root": "x", "split": {"train": 0.9}}, "data.split: train \\+ valid \\+ test must be 1, not 1.2"),
        ({"root": "x", "multi_label": True}, "data: multi_label needs labels, a CSV file"),
        ({"root": "x", "masks": "m", "labels": "l.csv"}, "data: masks and labels exclude each other"),
        ({"root": "x", "masks": "/m"}, "data: masks is a folder below data.root"),
        ({"root": "x", "masks": "../m"}, "data: masks is a folder below data.root"),
        ({"root": "x", "mask_classes": ["a", "a"]}, "data: mask_classes must not repeat"),
        ({"root": "x", "mask_classes": ["a"]}, "data.mask_classes: .*2"),
    ],
)
def test_each_mistake_is_explained(data: dict, expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        check_values(Recipe, {"name": "r", "data": data}, "test")


def test_shares_of_a_split_may_be_rounded() -> None:
    assert SplitSettings(train=1 / 3, valid=1 / 3, test=0.3333333).train == 1 / 3


def test_several_labels_a_tile_come_with_their_table() -> None:
    assert DataSettings(root="x", labels="labels.csv", multi_label=True).multi_label
