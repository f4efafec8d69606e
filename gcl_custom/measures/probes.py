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

from gcl_custom.measures.label_kinds import LabelKind

TEMPERATURE = 0.07
"""The temperature of the neighbours' votes (arXiv:1805.01978, section 3.4), common practice since."""


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
    """Largest entry of the objective's gradient at the end: 0 at the optimum."""

    def scores(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        return x.to(self.weight) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Probed:
    """A probe's outcome. The validation tiles chose the penalty; the test tiles were used once, afterwards."""

    scores: Float[Tensor, "test classes"]
    valid_score: float
    penalty: float
    converged: bool

    def ranked(self, classes: int) -> Int[Tensor, "test k"]:
        """The classes with the highest scores, the highest first."""
        return self.scores.topk(classes, dim=1).indices


def fit_linear(
    x: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n *_"],
    kind: LabelKind,
    classes: int,
    penalty: float,
    start: Linear | None = None,
    tolerance: float = 1e-5,
    iterations: int = 500,
) -> Linear:
    """A linear model fitted by full-batch L-BFGS.

    Minimises the loss of the kind of label + penalty / 2 * ||weight||^2, with the bias unpenalised. With one label a
    tile this is scikit-learn's LogisticRegression with C = 1 / (n * penalty), with several it is one for each class.

    Args:
        start: where to begin, such as the solution for another penalty; by default at zero.
        tolerance: stop when no entry of the gradient is larger.
        iterations: stop after this many, converged or not.
    """
    weight = x.new_zeros(classes, x.shape[1]) if start is None else start.weight.clone()
    bias = x.new_zeros(classes) if start is None else start.bias.clone()
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
        loss = kind.loss(x @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
        objective()
    gradient = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
    return Linear(weight.detach(), bias.detach(), gradient)


def linear_probe(
    train: Labelled, valid: Labelled, test: Float[Tensor, "test d"], classes: int, penalties: Sequence[float]
) -> Probed:
    """Linear probe on standardised representations, with the penalty of the best validation score (the stronger in a
    tie).

    Mean and deviation are those of the training tiles; a feature that never varies there becomes 0. Everything is
    computed in float64, from the strongest penalty to the weakest, each starting at the previous solution.
    """
    tolerance = 1e-5
    wide = train.representations.double()
    mean = wide.mean(0)
    deviation = wide.std(0, correction=0)
    scale = torch.where(deviation > 1e-12 * (1 + mean.abs()), 1 / deviation, torch.zeros_like(deviation))
    x, valid_x, test_x = ((r.double() - mean) * scale for r in (wide, valid.representations, test))

    fitted: Linear | None = None
    best: tuple[float, float, Linear] | None = None
    for penalty in sorted(penalties, reverse=True):
        fitted = fit_linear(x, train.labels, train.kind, classes, penalty, start=fitted, tolerance=tolerance)
        score = valid.kind.score(valid.kind.decide(fitted.scores(valid_x)), valid.labels)
        if best is None or score > best[0]:
            best = score, penalty, fitted
    assert best is not None, "a linear probe needs at least one penalty"
    score, penalty, chosen = best
    return Probed(chosen.scores(test_x).cpu(), score, penalty, converged=chosen.gradient <= 10 * tolerance)


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
