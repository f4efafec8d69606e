import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn import functional

from gcl_custom.errors import UserError
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import random_split
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.label_kinds import (
    KINDS,
    MASKS,
    MULTI_LABEL,
    SINGLE_LABEL,
    TOP_5,
    kind_in_recipe,
    kind_in_table,
    kind_scored_by,
    kind_stored,
)
from gcl_custom.recipe.imagery import DataSettings, SplitSettings

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 1.5], [-1.0, 0.25]])


def test_one_class_a_tile_is_cross_entropy_and_top_1() -> None:
    kind, labels = SINGLE_LABEL, torch.tensor([0, 1, 0])
    torch.testing.assert_close(kind.loss(LOGITS, labels), functional.cross_entropy(LOGITS, labels))
    assert kind.decide(LOGITS).tolist() == [0, 1, 1]
    assert kind.score(kind.decide(LOGITS), labels) == pytest.approx(2 / 3)


def test_several_labels_a_tile_are_one_binary_question_a_class() -> None:
    kind, labels = MULTI_LABEL, torch.tensor([[True, True], [False, True], [True, False]])
    p = LOGITS.sigmoid()
    expected = -torch.where(labels, p, 1 - p).log().sum(1).mean()
    torch.testing.assert_close(kind.loss(LOGITS, labels), expected)
    # First class: right at ranks 1 and 3, so (1 + 2/3) / 2; second: at ranks 1 and 3 as well.
    assert kind.score(kind.decide(LOGITS), labels) == pytest.approx((1 + 2 / 3) / 2)


def test_what_is_scored_is_what_is_kept() -> None:
    labels = torch.tensor([[True], [False]])
    close = torch.tensor([[1.00001], [1.00002]])
    kept = torch.tensor(MULTI_LABEL.decide(close).tolist())
    assert MULTI_LABEL.score(MULTI_LABEL.decide(close), labels) == MULTI_LABEL.score(kept, labels) == 0.5


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL])
def test_results_of_what_is_kept_have_its_score(kind: LabelKind) -> None:
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    texts = ["a", "b", "c;a" if kind is MULTI_LABEL else "c", "b"] * 10
    labels = kind.encode(texts, ["a", "b", "c"])
    decided = kind.decide(logits)
    result = kind.result(np.array([decided.tolist()]), labels.numpy())
    assert (result.tiles, result.scores.tolist()) == (40, [pytest.approx(kind.score(decided, labels))])


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL], ids=["one", "several"])
def test_scores_that_are_no_numbers_are_no_decision(kind: LabelKind) -> None:
    logits = LOGITS.clone()
    logits[1, 0] = torch.nan
    labels = torch.tensor([0, 1, 0]) if kind is SINGLE_LABEL else LOGITS > 0
    with pytest.raises(UserError, match="scores of 1 of 3 tiles are not numbers"):
        kind.score(kind.decide(logits), labels)


def test_top_5_counts_a_tile_whose_class_is_among_the_five() -> None:
    predicted, truth = np.array([[[0, 1, 2, 3, 4], [5, 1, 2, 3, 4]]]), np.array([4, 0])
    assert SINGLE_LABEL.result(predicted, truth).scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("kind", "classes", "shown"), [(SINGLE_LABEL, 5, False), (SINGLE_LABEL, 6, True), (MULTI_LABEL, 6, False)]
)
def test_top_5_says_nothing_of_five_classes_and_of_several_labels(kind: LabelKind, classes: int, shown: bool) -> None:
    assert (TOP_5 in kind.probes(classes)) == shown


def test_confusion_has_true_classes_in_rows_and_is_summed_over_seeds() -> None:
    labels, predictions = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    expected = confusion_matrix(labels, predictions)
    np.testing.assert_array_equal(SINGLE_LABEL.confusion(predictions[None], labels, 3), expected)
    np.testing.assert_array_equal(SINGLE_LABEL.confusion(np.stack([predictions] * 2), labels, 3), 2 * expected)


# ---------------------------------------------------------------- reading and storing


@pytest.mark.parametrize(
    ("kind", "stored", "has_label", "of_water"),
    [
        (SINGLE_LABEL, [1, -1, -1, 0], [True, False, False, True], [True, False, False, False]),
        (MULTI_LABEL, [[1], [], [], [0, 1]], [True, False, False, True], [True, False, False, True]),
    ],
)
def test_labels_say_their_kind(kind: LabelKind, stored: list, has_label: list[bool], of_water: list[bool]) -> None:
    texts = ["water", None, "gone", "forest;water" if kind is MULTI_LABEL else "forest"]
    labels = kind.encode(texts, ["forest", "water"])
    assert kind.listed(labels) == stored
    assert kind_stored(kind.stored_as, labels, 2) is kind
    for wrong in (labels.float(), labels[:, None], labels.reshape(-1) if labels.ndim > 1 else labels[:, None]):
        with pytest.raises(ValueError, match=f"not of kind {kind.stored_as}"):
            kind_stored(kind.stored_as, wrong, 2)
    assert kind.has_label(labels).tolist() == has_label
    assert kind.bears(labels, 1).tolist() == of_water


def test_every_kind_is_found_by_what_its_scores_are() -> None:
    assert [kind_scored_by(kind.measure) for kind in KINDS] == list(KINDS)


def test_a_table_has_several_labels_a_tile_where_a_file_has_or_the_recipe_says_so() -> None:
    assert kind_in_table(["a", "b"]) is SINGLE_LABEL
    assert kind_in_table(["a", "a;b"]) is MULTI_LABEL
    assert kind_in_recipe(DataSettings(root=".", labels="labels.csv")) is None
    assert kind_in_recipe(DataSettings(root=".", labels="labels.csv", multi_label=True)) is MULTI_LABEL


def test_only_tiles_of_one_class_are_nothing_to_tell_apart() -> None:
    assert SINGLE_LABEL.only_class(torch.tensor([2, 2])) == 2
    assert SINGLE_LABEL.only_class(torch.tensor([2, 1])) is None
    assert MULTI_LABEL.only_class(torch.tensor([[True], [True]])) is None  # one class may be borne or not


# ---------------------------------------------------------------- which tiles


def one_each(*counts: int) -> Tensor:
    return torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])


def sets(count: int = 200) -> Tensor:
    """Tiles with one or more of four classes, the last one rare and never alone."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.rand(count, 4, generator=rng) < torch.tensor([0.5, 0.5, 0.3, 0.0])
    labels[:, 0] |= ~labels.any(1)
    labels[::40, 3] = True
    return labels


def test_shots_are_so_many_of_each_class_nested_and_a_part_of_the_seeds_shares() -> None:
    labels = torch.arange(300) % 3
    labels[:240][labels[:240] == 2] = -1  # the last class has twenty tiles, and many have no label
    one, five, many = (SINGLE_LABEL.shots(labels, each, 4) for each in (1, 5, 40))
    assert labels[five].bincount().tolist() == [5, 5, 5]
    assert labels[many].bincount().tolist() == [40, 40, 20]
    assert set(one.tolist()) < set(five.tolist()) < set(many.tolist())
    assert torch.equal(five, five.sort().values)
    share = SINGLE_LABEL.subset(labels, 0.5, 4)  # 50, 50 and 10 of each
    assert set(five.tolist()) < set(share.tolist())
    assert not torch.equal(five, SINGLE_LABEL.shots(labels, 5, 5))


def test_subset_is_stratified_nested_and_a_function_of_the_seed() -> None:
    labels = one_each(300, 50, 12)[torch.randperm(362, generator=torch.Generator().manual_seed(0))]
    labels[::9] = -1
    small, large, whole = (SINGLE_LABEL.subset(labels, fraction, 4) for fraction in (0.05, 0.4, 1.0))
    assert set(small.tolist()) < set(large.tolist()) < set(whole.tolist())
    assert whole.tolist() == torch.nonzero(labels >= 0).flatten().tolist()
    for label in range(3):
        total = int((labels == label).sum())
        assert int((labels[large] == label).sum()) == round(0.4 * total)
    assert torch.equal(small, small.sort().values)
    assert torch.equal(small, SINGLE_LABEL.subset(labels, 0.05, 4))
    assert not torch.equal(large, SINGLE_LABEL.subset(labels, 0.4, 5))


def test_a_fraction_of_few_labels_keeps_one_tile_of_each_class() -> None:
    labels = one_each(30, 5, 3)
    assert labels[SINGLE_LABEL.subset(labels, 0.01, 0)].tolist() == [0, 1, 2]


def test_a_share_of_tiles_with_several_labels_keeps_every_class() -> None:
    labels = sets()
    for fraction in (0.005, 0.02, 0.3, 1.0):
        chosen = MULTI_LABEL.subset(labels, fraction, 3)
        assert labels[chosen].any(0).all()
        assert len(chosen) <= max(4, round(fraction * 200))
        assert torch.equal(chosen, chosen.unique())
    assert len(MULTI_LABEL.subset(labels, 0.3, 3)) == 60


def test_shares_of_tiles_with_several_labels_are_nested_and_a_function_of_the_seed() -> None:
    labels = sets()
    small, large = (set(MULTI_LABEL.subset(labels, fraction, 4).tolist()) for fraction in (0.05, 0.4))
    assert small < large
    assert small == set(MULTI_LABEL.subset(labels, 0.05, 4).tolist())
    assert large != set(MULTI_LABEL.subset(labels, 0.4, 5).tolist())


def test_tiles_with_several_labels_are_divided_with_their_rarest() -> None:
    labels = sets()
    divided = MULTI_LABEL.strata(labels)
    assert divided[::40].tolist() == [3] * 5
    assert labels[torch.arange(200), divided].all()
    assert MULTI_LABEL.strata(torch.zeros(2, 3, dtype=torch.bool)).tolist() == [-1, -1]
    assert MULTI_LABEL.strata(torch.zeros(2, 0, dtype=torch.bool)).tolist() == [-1, -1]
    split = random_split([Source(str(i)) for i in range(200)], divided, SplitSettings())
    assert all(labels[split == code].any(0).all() for code in range(3))


def test_no_labels_at_all_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no training tile has a label.*data\.card"):
        SINGLE_LABEL.subset(torch.full((20,), -1), 0.1, 0)


@pytest.mark.parametrize(
    ("kind", "labels"), [(SINGLE_LABEL, one_each(20)), (MULTI_LABEL, sets()), (MASKS, sets().int())]
)
def test_a_fraction_beyond_all_labels_is_refused(kind: LabelKind, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        kind.subset(labels, 1.5, 0)


# ---------------------------------------------------------------- masks


def drawn_masks(classes: int = 3, tiles: int = 12, side: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, true masks with pixels of no class, and each tile's pixels of each class."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(tiles, classes, side, side, generator=rng)
    masks = torch.randint(classes, (tiles, side, side), generator=rng).to(torch.uint8)
    masks[torch.rand(masks.shape, generator=rng) < 0.2] = 255
    return logits, masks, torch.stack([(masks == label).sum((1, 2)) for label in range(classes)], dim=1)


def test_one_class_a_pixel_is_cross_entropy_over_the_pixels_that_have_one() -> None:
    logits, masks, _ = drawn_masks()
    there = masks != 255
    expected = functional.cross_entropy(logits.movedim(1, -1)[there], masks[there].long())
    torch.testing.assert_close(MASKS.loss(logits, masks), expected)
    nothing = MASKS.loss(logits.requires_grad_(), torch.full_like(masks, 255))
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()


def test_masks_are_scored_by_what_is_kept_of_them() -> None:
    logits, masks, counts = drawn_masks()
    decided = MASKS.decide(logits)
    assert torch.equal(decided, logits.argmax(1))
    kept = MASKS.kept(decided, masks, 3)
    ious = []
    for label in range(3):
        said, true = (decided == label) & (masks != 255), masks == label
        ious.append(float((said & true).sum() / (said | true).sum()))
    assert MASKS.score(kept, counts) == pytest.approx(sum(ious) / 3)
    result = MASKS.result(np.array([kept.tolist()]), counts.numpy())
    assert (result.tiles, result.scores.tolist()) == (12, [pytest.approx(sum(ious) / 3)])
    low, high = result.interval()
    assert low < result.scores[0] < high
    assert MASKS.by_class(np.array([kept.tolist()]), counts.numpy()) == pytest.approx(ious)
    assert MASKS.by_class(np.array([kept.tolist()]), counts.numpy() * [1, 0, 1])[1] is None
    with pytest.raises(UserError, match="scores of 1 of 12 tiles are not numbers"):
        MASKS.decide(torch.where(torch.arange(12)[:, None, None, None] == 4, torch.nan, logits))


def test_labels_of_masks_are_their_pixels_of_each_class() -> None:
    labels = torch.tensor([[20, 5], [25, 0], [0, 0], [3, 3]])
    assert kind_stored("masks", labels, 2) is MASKS
    with pytest.raises(ValueError, match="not of kind masks"):
        kind_stored("masks", labels, 3)
    assert MASKS.has_label(labels).tolist() == [True, True, False, True]
    assert MASKS.bears(labels, 1).tolist() == [True, False, False, True]
    assert MASKS.strata(labels).tolist() == [1, 0, -1, 1]  # water is rarer
    assert MASKS.only_class(labels) is None
    assert MASKS.only_class(labels[1:3]) == 0
    assert MASKS.remarks(labels, ["land", "water"])[0].endswith("pixels: land 85.7 %, water 14.3 %")
    kind, whole = MASKS.of_whole_tiles(labels)
    assert kind is MULTI_LABEL
    assert whole.tolist() == [[True, True], [True, False], [False, False], [True, True]]


def test_a_share_of_masks_keeps_every_class() -> None:
    labels = sets().int() * 7
    assert torch.equal(MASKS.subset(labels, 0.02, 3), MULTI_LABEL.subset(sets(), 0.02, 3))
