import random

import pytest
import torch
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import in_words, label_counts, random_split, strata, subset, subset_of_sets
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


def test_subset_is_stratified_nested_and_a_function_of_the_seed() -> None:
    labels = tiles(300, 50, 12)[1][torch.randperm(362, generator=torch.Generator().manual_seed(0))]
    labels[::9] = -1
    small, large, whole = (subset(labels, fraction, 4) for fraction in (0.05, 0.4, 1.0))
    assert set(small.tolist()) < set(large.tolist()) < set(whole.tolist())
    assert whole.tolist() == torch.nonzero(labels >= 0).flatten().tolist()
    for label in range(3):
        total = int((labels == label).sum())
        assert int((labels[large] == label).sum()) == round(0.4 * total)
    assert torch.equal(small, small.sort().values)
    assert torch.equal(small, subset(labels, 0.05, 4))
    assert not torch.equal(large, subset(labels, 0.4, 5))


def test_a_fraction_of_few_labels_keeps_one_tile_of_each_class() -> None:
    labels = tiles(30, 5, 3)[1]
    assert label_counts(labels, 0.01) == {0: 1, 1: 1, 2: 1}
    assert sorted(labels[subset(labels, 0.01, 0)].tolist()) == [0, 1, 2]


def sets(count: int = 200) -> Tensor:
    """Tiles with one or more of four classes, the last one rare and never alone."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.rand(count, 4, generator=rng) < torch.tensor([0.5, 0.5, 0.3, 0.0])
    labels[:, 0] |= ~labels.any(1)
    labels[::40, 3] = True
    return labels


def test_a_share_of_tiles_with_several_labels_keeps_every_class() -> None:
    labels = sets()
    for fraction in (0.005, 0.02, 0.3, 1.0):
        chosen = subset_of_sets(labels, fraction, 3)
        assert labels[chosen].any(0).all()
        assert len(chosen) <= max(4, round(fraction * 200))
        assert torch.equal(chosen, chosen.unique())
    assert len(subset_of_sets(labels, 0.3, 3)) == 60


def test_shares_of_tiles_with_several_labels_are_nested_and_a_function_of_the_seed() -> None:
    labels = sets()
    small, large = (set(subset_of_sets(labels, fraction, 4).tolist()) for fraction in (0.05, 0.4))
    assert small < large
    assert small == set(subset_of_sets(labels, 0.05, 4).tolist())
    assert large != set(subset_of_sets(labels, 0.4, 5).tolist())


def test_tiles_with_several_labels_are_divided_with_their_rarest() -> None:
    labels = sets()
    divided = strata(labels)
    assert divided[::40].tolist() == [3] * 5
    assert labels[torch.arange(200), divided].all()
    assert strata(torch.zeros(2, 3, dtype=torch.bool)).tolist() == [-1, -1]
    assert strata(torch.zeros(2, 0, dtype=torch.bool)).tolist() == [-1, -1]
    split = random_split([Source(str(i)) for i in range(200)], divided, SplitSettings())
    assert all(labels[split == code].any(0).all() for code in range(3))


def test_no_labels_at_all_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no training tile has a label.*data\.card"):
        subset(torch.full((20,), -1), 0.1, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        subset(torch.zeros(20, dtype=torch.int64), 1.5, 0)


def test_words_about_a_split_hold_back_nothing() -> None:
    assert "neighbouring tiles" in in_words({"split": "random", "duplicates_across_splits": 0})
    given = in_words({"split": "given by folders", "duplicates_across_splits": 7})
    assert "neighbouring tiles" not in given
    assert given.endswith("in more than one split: 7.")
