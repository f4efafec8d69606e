"""Probes of frozen representations: a linear classifier and nearest neighbours.

Both give a score for each class of every test tile. The kind of label turns these into what is kept and scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.recipe.evaluation import PENALTY_OF_FEW

TEMPERATURE = 0.07
"""The temperature of the neighbours' votes (arXiv:1805.01978, section 3.4), common practice since."""


TOLERANCE = 1e-6
"""A fit ends when no entry of its gradient is larger. One that ends at ten times of it counts as converged, too."""


@dataclass(frozen=True)
class Labelled:
    """Representations of some tiles, and their labels."""

    representations: Float[Tensor, "n d"]
    labels: Shaped[Tensor, "n *_"]
    kind: LabelKind


@dataclass(frozen=True)
class Linear:
    """A fitted linear probe: class scores are ``x @ weight.T + bias`` of standardised representations."""

    weight: Float[Tensor, "classes d"]
    bias: Float[Tensor, "classes"]
    gradient: float
    """Largest entry of the gradient at the end, along the axes that ``Turned`` scales: 0 at the optimum."""

    def scores(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        return x.to(self.weight) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Probed:
    """A probe's outcome. The validation tiles chose the penalty; the test tiles were used once, afterwards."""

    scores: Float[Tensor, "test classes"]
    valid_score: float
    """Of the probe that was fitted to the training tiles alone."""
    penalty: float
    converged: bool

    def ranked(self, classes: int) -> Int[Tensor, "test k"]:
        """The classes with the highest scores, the highest first."""
        return self.scores.topk(classes, dim=1).indices


@dataclass(frozen=True)
class Turned:
    """Representations along their principal axes.

    A turn changes no penalty on the weights' length, so the optimum is the same. But here it is known how much the loss
    curves along each axis, and L-BFGS takes far fewer steps if each is scaled by that. With fewer tiles than
    features, only the axes that the tiles span are kept: the weights at the optimum have no other part.
    """

    x: Float[Tensor, "n r"]
    axes: Float[Tensor, "d r"]
    variances: Float[Tensor, "r"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"]) -> "Turned":
        spanned = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None
        within = x if spanned is None else x @ spanned
        variances, axes = torch.linalg.eigh(within.T @ within / len(x))
        return cls(within @ axes, axes if spanned is None else spanned @ axes, variances.clamp(min=0))


def fit_linear(
    x: Float[Tensor, "n d"] | Turned,
    labels: Shaped[Tensor, "n *_"],
    kind: LabelKind,
    classes: int,
    penalty: float,
    start: Linear | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = 500,
) -> Linear:
    """A linear model fitted by full-batch L-BFGS.

    Minimises the loss of the kind of label + penalty / 2 * ||weight||^2, with the bias unpenalised. That is
    scikit-learn's LogisticRegression with

        C = 1 / (n * penalty)    one of three classes or more a tile
        C = 2 / (n * penalty)    one of two classes a tile
        C = 1 / (n * penalty)    several labels a tile: a regression for each class

    scikit-learn has one weight w for two classes. Here each class has its own, which are w / 2 and -w / 2 at the
    optimum, and ||w / 2||^2 + ||-w / 2||^2 is half of ||w||^2.

    Args:
        start: where to begin, such as the solution for another penalty; by default at zero.
        tolerance: stop when no entry of the scaled gradient is larger.
        iterations: stop after this many, converged or not.
    """
    turned = x if isinstance(x, Turned) else Turned.of(x)
    said = kind.votes(labels, classes).to(turned.x).mean(0)
    scale = ((said * (1 - said)).mean() * turned.variances + penalty).sqrt()
    weight = turned.x.new_zeros(classes, len(scale)) if start is None else start.weight @ turned.axes * scale
    bias = turned.x.new_zeros(classes) if start is None else start.bias.clone()
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    solver = torch.optim.LBFGS(
        parameters,
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        along = weight / scale
        loss = kind.loss(turned.x @ along.T + bias, labels) + penalty / 2 * along.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
        objective()
    gradient = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
    return Linear((weight.detach() / scale) @ turned.axes.T, bias.detach(), gradient)


class Standardised:
    """Representations with mean 0 and deviation 1 over the training tiles, in float64.

    A feature that never varies there becomes 0.
    """

    def __init__(self, train: Float[Tensor, "n d"]) -> None:
        wide = train.double()
        self.mean = wide.mean(0)
        deviation = wide.std(0, correction=0)
        varies = deviation > 1e-12 * (1 + self.mean.abs())
        self.scale = torch.where(varies, 1 / deviation, torch.zeros_like(deviation))
        self.varying = int(varies.sum())

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (x.double() - self.mean) * self.scale


@dataclass(frozen=True)
class ChosenProbe:
    """A linear probe with the penalty that the validation tiles chose, fitted to training and validation tiles."""

    standardised: Standardised
    linear: Linear
    valid_score: float
    """Of the probe that was fitted to the training tiles alone."""
    penalty: float
    converged: bool

    def scores(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Class scores of representations as they are."""
        return self.linear.scores(self.standardised(x))


def choose_probe(train: Labelled, valid: Labelled, classes: int, penalties: Sequence[float]) -> ChosenProbe:
    """Linear probe on standardised representations, with the penalty of the best validation score (the stronger in a
    tie), fitted once more to training and validation tiles.

    The path goes from the strongest penalty to the weakest, each starting at the previous solution.
    """
    standardised = Standardised(train.representations)
    x, valid_x = map(standardised, (train.representations, valid.representations))
    turned = Turned.of(x)
    fitted: Linear | None = None
    best: tuple[float, float, Linear] | None = None
    for penalty in sorted(penalties, reverse=True):
        fitted = fit_linear(turned, train.labels, train.kind, classes, penalty, start=fitted)
        score = valid.kind.score(valid.kind.decide(fitted.scores(valid_x)), valid.labels)
        if best is None or score > best[0]:
            best = score, penalty, fitted
    assert best is not None, "a linear probe needs at least one penalty"
    score, penalty, chosen = best
    del turned  # as large as all representations in float64
    labels = torch.cat([train.labels, valid.labels])
    final = fit_linear(torch.cat([x, valid_x]), labels, train.kind, classes, penalty, start=chosen)
    converged = max(chosen.gradient, final.gradient) <= 10 * TOLERANCE
    return ChosenProbe(standardised, final, score, penalty, converged)


def linear_probe(
    train: Labelled, valid: Labelled, test: Float[Tensor, "test d"], classes: int, penalties: Sequence[float]
) -> Probed:
    """What the chosen probe says of the test tiles."""
    chosen = choose_probe(train, valid, classes, penalties)
    return Probed(chosen.scores(test).cpu(), chosen.valid_score, chosen.penalty, chosen.converged)


def probes_of_few(
    train: Labelled, test: Float[Tensor, "test d"], classes: int, draws: Sequence[Int[Tensor, "_"]]
) -> tuple[list[Float[Tensor, "test classes"]], bool]:
    """Class scores of a linear probe for each draw of a few labels, and whether all of them converged.

    Few labels leave none to choose a penalty by, so it is fixed: 1e-4 times the number of features, which is the mean
    squared length of a standardised representation. Mean and deviation are those of all training tiles, which takes no
    label.

    Args:
        draws: for each, which of the training tiles have labels.
    """
    standardised = Standardised(train.representations)
    x, test_x = standardised(train.representations), standardised(test)
    penalty = PENALTY_OF_FEW * max(1, standardised.varying)
    fitted = [
        fit_linear(x[drawn], train.labels[drawn], train.kind, classes, penalty)
        for drawn in (draw.to(x.device) for draw in draws)
    ]
    return [one.scores(test_x).cpu() for one in fitted], all(one.gradient <= 10 * TOLERANCE for one in fitted)


def knn(
    train: Labelled, test: Float[Tensor, "test d"], classes: int, neighbours: int, chunk: int = 1024
) -> Float[Tensor, "test classes"]:
    """Each class's share of the votes of the nearest training tiles by cosine similarity s, with weights exp(s / 0.07).

    All training tiles vote if there are fewer than ``neighbours``.
    """
    bank = F.normalize(train.representations.float(), dim=1)
    neighbours = min(neighbours, len(bank))
    said = train.kind.votes(train.labels, classes)
    votes = []
    for queries in torch.split(F.normalize(test.float(), dim=1), chunk):
        similarity, nearest = (queries @ bank.T).topk(neighbours, dim=1)
        weight = ((similarity - 1) / TEMPERATURE).exp()  # subtracting 1 changes no vote and prevents overflow
        cast = (rearrange(weight, "q k -> q k 1") * said[nearest]).sum(1)
        votes.append(cast / weight.sum(1, keepdim=True))
    return torch.cat(votes).cpu() if votes else torch.empty(0, classes)
