import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from gcl_custom.measures.label_kinds import MULTI_LABEL, SINGLE_LABEL
from gcl_custom.measures.probes import (
    PENALTY_OF_FEW,
    TEMPERATURE,
    Labelled,
    Turned,
    fit_linear,
    knn,
    linear_probe,
    probes_of_few,
)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    return SINGLE_LABEL.score(predictions, labels)


def several(count: int, seed: int, classes: int = 3, width: int = 6) -> Labelled:
    """Tiles with none, one or several labels, each a direction that is added."""
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    bears = torch.rand(count, classes, generator=rng) < 0.4
    return Labelled(bears.float() @ directions + torch.randn(count, width, generator=rng), bears, MULTI_LABEL)


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_several_labels_are_one_logistic_regression_a_class(penalty: float) -> None:
    train, test = several(300, 0), several(100, 1)
    x = train.representations.double()
    ours = fit_linear(x, train.labels, MULTI_LABEL, 3, penalty, tolerance=1e-8)
    for label in range(3):
        solver = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000)
        theirs = solver.fit(x, train.labels[:, label])
        np.testing.assert_allclose(ours.weight[label], theirs.coef_[0], atol=1e-4)
        np.testing.assert_allclose(
            ours.scores(test.representations)[:, label], theirs.decision_function(test.representations), atol=1e-3
        )


def test_penalty_of_several_labels_is_chosen_by_map() -> None:
    train, valid, test = (several(60, seed, width=40) for seed in (0, 1, 2))
    penalties = [1e-4, 1e-2, 1.0, 10.0]
    alone = {p: linear_probe(train, valid, test.representations, 3, [p]) for p in penalties}
    chosen = linear_probe(train, valid, test.representations, 3, penalties)
    assert chosen.penalty == max(penalties, key=lambda p: (alone[p].valid_score, p))
    x = (valid.representations - train.representations.mean(0)) / train.representations.std(0, correction=0)
    fitted = fit_linear(
        ((train.representations - train.representations.mean(0)) / train.representations.std(0, correction=0)).double(),
        train.labels, MULTI_LABEL, 3, chosen.penalty,
    )  # fmt: skip
    expected = average_precision_score(valid.labels, fitted.scores(x), average="macro")
    assert chosen.valid_score == pytest.approx(expected, abs=1e-3)


def test_knn_of_several_labels_is_the_weighted_share_of_the_neighbours_that_bear_each() -> None:
    train, test = several(200, 0), several(50, 1)
    theirs = KNeighborsClassifier(15, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE))
    theirs.fit(train.representations, train.labels)
    shares = np.stack([p[:, 1] for p in theirs.predict_proba(test.representations)], axis=1)
    np.testing.assert_allclose(knn(train, test.representations, 3, neighbours=15, chunk=33), shares, atol=1e-4)


def blobs(count: int, seed: int, spread: float = 1.0, width: int = 6, classes: int = 3) -> Labelled:
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    return Labelled(centres[labels] + spread * torch.randn(count, width, generator=rng), labels, SINGLE_LABEL)


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_linear_fit_is_scikit_learns_optimum(penalty: float) -> None:
    train, test = blobs(300, 0), blobs(200, 1)
    x = train.representations.double()
    ours = fit_linear(x, train.labels, SINGLE_LABEL, 3, penalty, tolerance=1e-8)
    theirs = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000).fit(x, train.labels)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-3)
    # Adding the same number to all biases changes no probability, so only their differences are determined.
    np.testing.assert_allclose(ours.bias - ours.bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)
    np.testing.assert_array_equal(ours.scores(test.representations).argmax(1), theirs.predict(test.representations))


@pytest.mark.parametrize("penalty", [1e-2, 1e-1])
def test_two_classes_are_scikit_learns_optimum_at_twice_the_c(penalty: float) -> None:
    train, test = blobs(300, 0, 2.0, classes=2), blobs(200, 1, 2.0, classes=2)
    x = train.representations.double()
    ours = fit_linear(x, train.labels, SINGLE_LABEL, 2, penalty, tolerance=1e-8).scores(test.representations)
    same, not_same = (
        LogisticRegression(C=c / (len(x) * penalty), tol=1e-10, max_iter=10_000)
        .fit(x, train.labels)
        .predict_proba(test.representations.double())
        for c in (2, 1)
    )
    np.testing.assert_allclose(ours.softmax(1), same, atol=1e-4)
    assert np.abs(ours.softmax(1).numpy() - not_same).max() > 1e-3


@pytest.mark.parametrize("width", [6, 50])  # fewer and more features than the 40 tiles
def test_turned_representations_have_the_same_products_and_uncorrelated_columns(width: int) -> None:
    x = blobs(40, 0, width=width).representations.double()
    turned = Turned.of(x)
    torch.testing.assert_close(turned.x @ turned.x.T, x @ x.T)
    torch.testing.assert_close(turned.x.T @ turned.x / 40, turned.variances.diag(), atol=1e-9, rtol=0)
    torch.testing.assert_close(turned.x, x @ turned.axes)


def test_ranked_classes_give_scikit_learns_top_k_accuracy() -> None:
    train, test = blobs(300, 0, 3.0, classes=8), blobs(400, 1, 3.0, classes=8)
    probed = linear_probe(train, train, test.representations, 8, [1e-2])
    ranked = probed.ranked(5)
    assert torch.equal(ranked[:, 0], probed.scores.argmax(1))
    hits = (ranked == test.labels[:, None]).any(1).double().mean().item()
    assert hits == pytest.approx(top_k_accuracy_score(test.labels, probed.scores, k=5))
    assert accuracy(probed.scores.argmax(1), test.labels) < hits < 1


def test_a_start_elsewhere_leads_to_the_same_optimum() -> None:
    train = blobs(200, 0)
    x = train.representations.double()
    cold = fit_linear(x, train.labels, SINGLE_LABEL, 3, 1e-3, tolerance=1e-8)
    start = fit_linear(x, train.labels, SINGLE_LABEL, 3, 1.0)
    warm = fit_linear(x, train.labels, SINGLE_LABEL, 3, 1e-3, start=start, tolerance=1e-8)
    torch.testing.assert_close(cold.weight, warm.weight, atol=1e-5, rtol=0)


def test_probe_ignores_the_scale_and_offset_of_features_and_constant_ones() -> None:
    train, valid, test = blobs(300, 0), blobs(150, 1), blobs(150, 2)

    def odd(x: Tensor) -> Tensor:
        scaled = x * torch.tensor([1e-3, 1e3, 1.0, 5.0, 0.1, 7.0]) + 3
        return torch.cat([scaled, torch.full((len(x), 1), 0.1)], dim=1)

    plain = linear_probe(train, valid, test.representations, 3, [1e-2])
    other = linear_probe(
        Labelled(odd(train.representations), train.labels, SINGLE_LABEL),
        Labelled(odd(valid.representations), valid.labels, SINGLE_LABEL),
        odd(test.representations), 3, [1e-2],
    )  # fmt: skip
    assert torch.equal(plain.scores.argmax(1), other.scores.argmax(1))
    assert plain.converged
    assert other.converged


def test_penalty_is_chosen_on_validation_and_ties_go_to_the_stronger() -> None:
    train, valid, test = blobs(60, 0, spread=2.5, width=40), blobs(300, 1, 2.5, 40), blobs(300, 2, 2.5, 40)
    penalties = [1e-4, 1e-2, 1.0, 10.0]
    alone = {p: linear_probe(train, valid, test.representations, 3, [p]) for p in penalties}
    best = max(penalties, key=lambda p: (alone[p].valid_score, p))
    chosen = linear_probe(train, valid, test.representations, 3, penalties)
    assert chosen.penalty == best
    assert chosen.valid_score == alone[best].valid_score

    apart = blobs(90, 3, spread=0.01)
    assert linear_probe(apart, apart, apart.representations, 3, [1e-3, 1e-2]).penalty == 1e-2


def test_the_chosen_penalty_is_fitted_once_more_to_training_and_validation_tiles() -> None:
    train, valid, test = blobs(60, 0, 2.0, 20), blobs(90, 1, 2.0, 20), blobs(300, 2, 2.0, 20)
    probed = linear_probe(train, valid, test.representations, 3, [1e-3, 1e-1, 10.0])
    mean, deviation = train.representations.mean(0), train.representations.std(0, correction=0)
    both = (torch.cat([train.representations, valid.representations]) - mean) / deviation
    labels = torch.cat([train.labels, valid.labels])
    theirs = LogisticRegression(C=1 / (150 * probed.penalty), tol=1e-10, max_iter=10_000).fit(both.double(), labels)
    x = ((test.representations - mean) / deviation).double()
    np.testing.assert_allclose(probed.scores.softmax(1), theirs.predict_proba(x), atol=1e-3)
    alone = fit_linear(((train.representations - mean) / deviation).double(), train.labels, SINGLE_LABEL, 3, 1e-1)
    assert not torch.allclose(alone.scores(x), probed.scores, atol=1e-2)


def test_a_path_from_1e4_to_1e_6_converges_at_each_penalty() -> None:
    train = blobs(300, 0, 1.5, width=100, classes=6)
    x = train.representations.double() @ torch.randn(100, 100, generator=torch.Generator().manual_seed(0)).double()
    turned, fitted = Turned.of(x), None
    for penalty in [10.0**power for power in range(4, -7, -1)]:
        fitted = fit_linear(turned, train.labels, SINGLE_LABEL, 6, penalty, start=fitted)
        assert fitted.gradient <= 1e-4


def test_a_probe_of_few_labels_is_scikit_learns_with_the_stated_penalty() -> None:
    train, test = blobs(300, 0, 2.0, width=40), blobs(200, 1, 2.0, width=40)
    constant = torch.full((300, 1), 0.1)  # a feature that never varies does not count
    wider = Labelled(torch.cat([train.representations, constant], 1), train.labels, SINGLE_LABEL)
    draws = [SINGLE_LABEL.shots(train.labels, each, seed) for seed in (0, 1) for each in (2, 20)]
    found, converged = probes_of_few(wider, torch.cat([test.representations, constant[:200]], 1), 3, draws)
    assert converged
    x, test_x = (
        ((r - train.representations.mean(0)) / train.representations.std(0, correction=0)).double()
        for r in (train.representations, test.representations)
    )
    for scores, drawn in zip(found, draws, strict=True):
        theirs = LogisticRegression(C=1 / (len(drawn) * 40 * PENALTY_OF_FEW), tol=1e-10, max_iter=10_000)
        theirs.fit(x[drawn], train.labels[drawn])
        np.testing.assert_allclose(scores.softmax(1), theirs.predict_proba(test_x), atol=2e-3)
    few, many = (accuracy(scores.argmax(1), test.labels) for scores in found[:2])
    assert few < many


def test_separable_tiles_and_more_features_than_tiles_converge() -> None:
    train = blobs(40, 0, spread=0.1, width=100)
    probed = linear_probe(train, train, train.representations, 3, [1e-6])
    assert probed.converged
    assert accuracy(probed.scores.argmax(1), train.labels) == 1


def test_knn_is_scikit_learns_weighted_vote() -> None:
    train, test = blobs(400, 0, spread=2.0), blobs(100, 1, spread=2.0)
    theirs = KNeighborsClassifier(15, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE))
    theirs.fit(train.representations, train.labels)
    ours = knn(train, test.representations, 3, neighbours=15, chunk=33).argmax(1)
    np.testing.assert_array_equal(ours, theirs.predict(test.representations))


def test_knn_with_fewer_tiles_than_neighbours() -> None:
    train = Labelled(torch.eye(2), torch.tensor([0, 1]), SINGLE_LABEL)
    assert knn(train, torch.tensor([[2.0, 0.1], [0.1, 9.0]]), 2, neighbours=20).argmax(1).tolist() == [0, 1]
