"""What a frozen public network still recognises in altered tiles, such as reconstructions and generative views.

    n  tiles     d  pooled features

A tokenizer may keep the colours of a tile and lose what it shows, and PSNR tells little of that. So a linear probe and
the nearest neighbours read altered tiles as they were learned from real ones. Each tile is read by a probe that was
fitted to other tiles, so no further tiles are needed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.probes import Labelled, knn, probes_of_few

FOLDS = 4
NEIGHBOURS = 20
LEAST_TILES = 40
"""With fewer labelled tiles, scores are too coarse to compare."""
LEAST = 0.8
"""Below this share of what is recognised in real tiles, a warning is due."""


@dataclass(frozen=True)
class Recognised:
    """Scores from 0 to 1 of real tiles and of altered ones, by the measure of the kind of label."""

    linear_real: float
    linear: float
    knn_real: float
    knn: float

    @property
    def share(self) -> float:
        """What the probe recognises of altered tiles, as a share of what it recognises in real ones."""
        return self.linear / self.linear_real if self.linear_real else 0.0

    def facts(self) -> dict[str, float]:
        """For a stage: the share, and the scores behind it."""
        return {
            "recognised": self.share,
            "recognised_linear": self.linear,
            "recognised_linear_real": self.linear_real,
            "recognised_knn": self.knn,
            "recognised_knn_real": self.knn_real,
        }

    def __str__(self) -> str:
        return (
            f"a frozen network recognises {self.share:.0%} of what it does in the tiles (linear probe "
            f"{self.linear:.1%} against {self.linear_real:.1%}, kNN {self.knn:.1%} against {self.knn_real:.1%})"
        )

    def warning(self, what: str, remedy: str) -> str | None:
        """A line for a reader if too little is recognised.

        Args:
            what: the altered tiles, such as "reconstructions".
        """
        return None if self.share >= LEAST else f"in {what}, {self}: {remedy}"


def recognised(
    real: Float[Tensor, "n d"], altered: Float[Tensor, "n d"], labels: Shaped[Tensor, "n *_"], kind: LabelKind
) -> Recognised | None:
    """Read altered tiles with probes of real ones: tile i with those fitted to the tiles of other folds (i mod 4).

    Args:
        real, altered: a network's features of the same tiles, before and after.
        labels: of the tiles; those without one do not count.

    Returns:
        None with fewer than 40 labelled tiles, with one class, or where each pixel has one of its own.
    """
    if kind.dense:
        return None
    there = kind.has_label(labels).to(real.device)
    real, altered, labels = real[there], altered[there], labels.to(real.device)[there]
    if len(labels) < LEAST_TILES or kind.only_class(labels) is not None:
        return None
    classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    fold = torch.arange(len(labels), device=real.device) % FOLDS
    scores: dict[str, list[Tensor]] = {name: [] for name in ("linear_real", "linear", "knn_real", "knn")}
    for number in range(FOLDS):
        read, taught = fold == number, torch.nonzero(fold != number).flatten()
        train = Labelled(real[taught], labels[taught], kind)
        both = torch.cat([real[read], altered[read]])
        (linear,), _ = probes_of_few(train, both, classes, [torch.arange(len(taught))])
        for name, found in (("linear", linear), ("knn", knn(train, both, classes, NEIGHBOURS))):
            of_real, of_altered = kind.decide(found).chunk(2)
            scores[f"{name}_real"].append(of_real)
            scores[name].append(of_altered)
    order = torch.cat([torch.nonzero(fold == number).flatten() for number in range(FOLDS)]).cpu()
    truth = labels.cpu()[order]
    return Recognised(**{name: kind.score(torch.cat(found), truth) for name, found in scores.items()})
