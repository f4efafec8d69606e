import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from gcl_custom.measures.label_kinds import MULTI_LABEL, SINGLE_LABEL
from gcl_custom.measures.probes import PENALTY_OF_FEW
from gcl_custom.measures.recognised import FOLDS, LEAST, recognised

CLASSES, WIDTH = 3, 8


def features(count: int = 160, noise: float = 0.6) -> tuple[Tensor, Tensor]:
    """Features around a centre for each class, the classes in turn."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(count) // (FOLDS * 2) % CLASSES
    centres = torch.randn(CLASSES, WIDTH, generator=rng)
    return centres[labels] + noise * torch.randn(count, WIDTH, generator=rng), labels


def test_unaltered_tiles_are_recognised_as_they_are() -> None:
    real, labels = features()
    found = recognised(real, real.clone(), labels, SINGLE_LABEL)
    assert found is not None
    assert (found.linear, found.knn, found.share) == (found.linear_real, found.knn_real, 1.0)
    assert found.linear_real > 0.8
    assert found.warning("views", "x") is None


def test_scores_are_those_of_scikit_learn_fold_by_fold() -> None:
    real, labels = features(noise=1.2)
    altered = real + torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    found = recognised(real, altered, labels, SINGLE_LABEL)
    assert found is not None
    right, near = [], []
    x, other, truth = real.double().numpy(), altered.double().numpy(), labels.numpy()
    for fold in range(FOLDS):
        read = np.arange(len(x)) % FOLDS == fold
        mean, deviation = x[~read].mean(0), x[~read].std(0)
        model = LogisticRegression(C=1 / ((~read).sum() * PENALTY_OF_FEW * WIDTH), tol=1e-8, max_iter=5000)
        model.fit((x[~read] - mean) / deviation, truth[~read])
        right.append(model.predict((other[read] - mean) / deviation) == truth[read])
        votes = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp(-d / 0.07)).fit(
            x[~read], truth[~read]
        )
        near.append(votes.predict(other[read]) == truth[read])
    assert found.linear == pytest.approx(np.concatenate(right).mean())
    assert found.knn == pytest.approx(np.concatenate(near).mean())
    assert found.linear < found.linear_real


def test_what_lost_its_content_warns() -> None:
    real, labels = features()
    blurred = real.mean(0).expand_as(real) + 1e-3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(2))
    found = recognised(real, blurred, labels, SINGLE_LABEL)
    assert found is not None
    assert found.share < LEAST
    assert "in reconstructions, a frozen network recognises" in (found.warning("reconstructions", "train longer") or "")


def test_tiles_without_a_label_do_not_count() -> None:
    real, labels = features()
    more = torch.cat([real, 100 + torch.randn(40, WIDTH)])
    alone = recognised(real, real * 0.5, labels, SINGLE_LABEL)
    assert recognised(more, more * 0.5, torch.cat([labels, torch.full((40,), -1)]), SINGLE_LABEL) == alone


@pytest.mark.parametrize("labels", [torch.zeros(100, dtype=torch.int64), torch.full((100,), -1)])
def test_nothing_is_said_without_classes(labels: Tensor) -> None:
    x = torch.randn(100, WIDTH)
    assert recognised(x, x, labels, SINGLE_LABEL) is None


def test_several_labels_are_scored_by_their_measure() -> None:
    real, labels = features()
    bears = torch.nn.functional.one_hot(labels, CLASSES).bool()
    bears[::5, 0] = True
    found = recognised(real, torch.randn(real.shape), bears, MULTI_LABEL)
    assert found is not None
    assert found.linear < 0.6 < found.linear_real
