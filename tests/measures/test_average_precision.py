import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from gcl_custom.errors import UserError
from gcl_custom.measures import average_precision
from gcl_custom.measures.average_precision import average_precisions, mean_average_precision, resampled


def drawn(tiles: int = 60, classes: int = 4, seed: int = 0, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(tiles, classes))
    truth = rng.random((tiles, classes)) < 0.3
    return (np.round(scores * levels) if levels else scores), truth


@pytest.mark.parametrize("levels", [0, 1, 3])  # with few levels many tiles have equal scores
def test_it_is_scikit_learns_average_precision(levels: int) -> None:
    scores, truth = drawn(levels=levels)
    expected = [average_precision_score(truth[:, c], scores[:, c]) for c in range(4)]
    np.testing.assert_allclose(average_precisions(scores, truth)[0], expected)
    assert mean_average_precision(scores, truth) == pytest.approx(np.mean(expected))


def test_a_weight_is_a_number_of_copies() -> None:
    scores, truth = drawn(levels=3)
    counts = np.random.default_rng(1).integers(0, 4, len(scores))
    copied = np.repeat(np.arange(len(scores)), counts)
    expected = [average_precision_score(truth[copied, c], scores[copied, c]) for c in range(4)]
    np.testing.assert_allclose(average_precisions(scores, truth, counts[None])[0], expected)


def test_classes_that_no_tile_bears_do_not_count() -> None:
    scores, truth = drawn()
    truth[:, 2] = False
    assert np.isnan(average_precisions(scores, truth)[0, 2])
    rest = [0, 1, 3]
    assert mean_average_precision(scores, truth) == pytest.approx(
        mean_average_precision(scores[:, rest], truth[:, rest])
    )
    with pytest.raises(ValueError, match="needs a tile with a label"):
        mean_average_precision(scores, np.zeros_like(truth))


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    scores, truth = drawn()
    scores[[3, 3, 8], [0, 1, 2]] = bad
    with pytest.raises(UserError, match="scores of 2 of 60 tiles are not numbers"):
        mean_average_precision(scores, truth)
    scores[[3, 3, 8], [0, 1, 2]] = np.inf
    assert 0 < mean_average_precision(scores, truth) < 1


def test_samples_are_the_same_for_every_call_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = drawn()
    whole = resampled(scores[None], truth)
    monkeypatch.setattr(average_precision, "CHUNK", 7 * len(truth))
    np.testing.assert_array_equal(resampled(np.stack([scores, scores]), truth), whole)
    assert len(whole) == average_precision.DRAWS
    assert whole.std() > 0
