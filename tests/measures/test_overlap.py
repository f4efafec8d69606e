import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor

from gcl_custom.measures.overlap import DRAWS, mean_iou, overlaps, resampled
from gcl_custom.measures.statistics import Overlap


def masks(classes: int, tiles: int = 9, side: int = 6, right: float = 0.6) -> tuple[Tensor, Tensor]:
    """What is said, and what is true, with some pixels of no class."""
    rng = torch.Generator().manual_seed(classes)
    true = torch.randint(classes, (tiles, side, side), generator=rng)
    said = torch.randint(classes, (tiles, side, side), generator=rng)
    said = torch.where(torch.rand(true.shape, generator=rng) < right, true, said)
    true[torch.rand(true.shape, generator=rng) < 0.15] = 255
    return said, true.to(torch.uint8)


def counts(true: Tensor, classes: int) -> np.ndarray:
    return np.stack([(true == label).sum((1, 2)).numpy() for label in range(classes)], axis=1)


@pytest.mark.parametrize("classes", [2, 4])
def test_miou_is_scikit_learns_over_all_pixels_that_have_a_class(classes: int) -> None:
    said, true = masks(classes)
    there = true != 255
    expected = jaccard_score(true[there].numpy(), said[there].numpy(), average="macro")
    assert mean_iou(overlaps(said, true, classes).numpy(), counts(true, classes)) == pytest.approx(expected)


def test_each_tile_has_its_own_overlaps() -> None:
    said, true = masks(3)
    found = overlaps(said, true, 3)
    for tile in range(len(said)):
        for label in range(3):
            ours, theirs = (said[tile] == label) & (true[tile] != 255), true[tile] == label
            assert found[tile, label].tolist() == [int((ours & theirs).sum()), int((ours | theirs).sum())]


def test_a_class_that_is_true_nowhere_counts_only_against_the_others() -> None:
    said, true = masks(3)
    true[true == 2] = 255
    said[0, 0, 0], true[0, 0, 0] = 2, 0
    found = overlaps(said, true, 3)
    inside, union = found.sum(0).T
    assert inside[2] == 0 < union[2]
    assert mean_iou(found.numpy(), counts(true, 3)) == pytest.approx(float((inside / union)[:2].mean()))
    with pytest.raises(ValueError, match="a pixel with a class"):
        mean_iou(found.numpy(), np.zeros((9, 3), dtype=np.int64))


def test_samples_of_tiles_vary_as_the_slow_bootstrap_does() -> None:
    said, true = masks(2, tiles=30)
    found, truth = overlaps(said, true, 2).numpy(), counts(true, 2)
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(DRAWS):
        drawn = rng.integers(30, size=30)
        slow.append(mean_iou(found[drawn], truth[drawn]))
    fast = resampled(found[None, None], truth)
    assert fast.mean() == pytest.approx(np.mean(slow), abs=2e-3)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)


def test_draws_of_labels_widen_the_interval_and_a_better_network_is_better_on_the_same_samples() -> None:
    true = masks(2, tiles=30)[1]
    truth = counts(true, 2)
    many = [[overlaps(masks(2, 30, right=right)[0], true, 2).numpy() for right in (0.3, 0.5, 0.9)]]
    drawn, one = Overlap(np.array(many), truth), Overlap(np.array(many)[:, 1:2], truth)
    assert drawn.scores[0] == pytest.approx(np.mean([mean_iou(each, truth) for each in many[0]]))
    widths = [high - low for low, high in (drawn.interval(), one.interval())]
    assert widths[0] > 2 * widths[1]
    better = Overlap(np.array(many)[:, 2:], truth).over_tiles(one)
    assert better.mean > 0
    assert better.excludes_zero
    assert one.over_tiles(one).mean == 0
