import random

import pytest
import torch
from torch import Tensor

from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import in_words, of_twins, random_split, twins
from gcl_custom.recipe.imagery import SplitSettings


def tiles(*counts: int) -> tuple[list[Source], Tensor]:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return [Source(f"class{label}/{number}.jpg") for number, label in enumerate(labels.tolist())], labels


def test_shares_hold_in_every_class() -> None:
    sources, labels = tiles(100, 40, 7, 3, 2, 1)
    split = random_split(sources, labels, SplitSettings())
    counts = [torch.bincount(split[labels == label], minlength=3).tolist() for label in range(6)]
    assert counts == [[70, 15, 15], [28, 6, 6], [5, 1, 1], [1, 1, 1], [2, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("total", range(1, 60))
@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.01, 0.98, 0.01), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3)])
def test_counts_sum_up_and_stay_near_the_shares(total: int, shares: tuple[float, float, float]) -> None:
    sources, labels = tiles(total)
    counts = torch.bincount(
        random_split(sources, labels, SplitSettings(train=shares[0], valid=shares[1], test=shares[2])), minlength=3
    )
    assert counts.sum() == total
    assert counts[0] >= 1
    if total >= 3:
        assert counts.min() >= 1
        assert all(
            abs(count - total * share) < 2 or count == 1 for count, share in zip(counts.tolist(), shares, strict=True)
        )


def test_the_split_does_not_depend_on_the_order_of_the_tiles() -> None:
    sources, labels = tiles(50, 30)
    split = dict(zip(sources, random_split(sources, labels, SplitSettings()).tolist(), strict=True))
    order = list(range(80))
    random.Random(0).shuffle(order)
    shuffled = random_split([sources[i] for i in order], labels[order], SplitSettings())
    assert shuffled.tolist() == [split[sources[i]] for i in order]
    other = random_split(sources, labels, SplitSettings(seed=1)).tolist()
    assert other != list(split.values())


def test_a_new_tile_moves_few_others() -> None:
    sources, labels = tiles(200)
    before = random_split(sources, labels, SplitSettings())
    after = random_split([*sources, Source("class0/new.jpg")], torch.cat([labels, labels[:1]]), SplitSettings())[:-1]
    assert (before != after).sum() <= 2


def test_splits_that_folders_do_not_give_are_drawn_from_train() -> None:
    sources, labels = tiles(85, 17)
    split = random_split(sources, labels, SplitSettings(), among=["train", "valid"])
    assert torch.bincount(split[labels == 0]).tolist() == [70, 15]
    split = random_split(sources, labels, SplitSettings(), among=["train", "test"])
    assert torch.bincount(split[labels == 1], minlength=3).tolist() == [14, 0, 3]


def test_words_about_a_split_hold_back_nothing() -> None:
    assert "neighbouring tiles" in in_words({"split": "random", "duplicates_across_splits": 0})
    given = in_words({"split": "given by folders", "duplicates_across_splits": 7})
    assert "neighbouring tiles" not in given
    assert given.endswith("in more than one split: 7.")


def test_twins_are_alike_and_in_different_splits() -> None:
    sources = [Source(f"{number}.png") for number in range(6)]
    found = twins(sources, ["x", "y", "x", "y", "z", "x"], [1, 0, 0, 0, 2, 1])
    assert found == [[sources[2], sources[0], sources[5]]]
    assert of_twins(found).startswith(
        "3 tiles are copies of one another in different splits, such as 2.png and 5.png: scores"
    )
    assert twins(sources, list("abcdef"), [0, 1, 2, 0, 1, 2]) == []


def test_names_that_are_not_utf8_are_divided_as_well() -> None:
    sources = [Source(f"caf\udce9{number}.png") for number in range(10)]
    assert random_split(sources, torch.zeros(10, dtype=torch.int64), SplitSettings()).bincount().tolist() == [7, 2, 1]
