"""What a label is: one class a tile, or a set of them. All that scoring does differently for the two stands here.

n  tiles     c  classes
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.measures.average_precision import mean_average_precision


class SingleLabel:
    """One class a tile, a whole number: cross-entropy, and the share of tiles whose likeliest class is the true one."""

    measure = "top-1"
    """Of the scores, for a reader."""
    figure = "accuracy"
    """The score's name among the figures of a training."""

    def loss(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, labels)

    def decide(self, logits: Float[Tensor, "n c"]) -> Int[Tensor, "n"]:
        """What is kept of a classifier's output."""
        return logits.argmax(1).cpu()

    def score(self, decided: Int[Tensor, "n"], labels: Int[Tensor, "n"]) -> float:
        """From 0 to 1."""
        return (decided.cpu() == labels.cpu()).double().mean().item()


class MultiLabel:
    """A set of classes a tile: binary cross-entropy, summed over classes, and the mean average precision."""

    measure = "mAP"
    figure = "mAP"

    def loss(self, logits: Float[Tensor, "n c"], labels: Bool[Tensor, "n c"]) -> Float[Tensor, ""]:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none").sum(1).mean()

    def decide(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        # Rounded before it is scored, so that scores follow from what is kept.
        return logits.double().cpu().round(decimals=4)

    def score(self, decided: Float[Tensor, "n c"], labels: Bool[Tensor, "n c"]) -> float:
        return mean_average_precision(decided.cpu().numpy(), labels.cpu().numpy())


Task = SingleLabel | MultiLabel


def task_of(multi_label: bool) -> Task:
    return MultiLabel() if multi_label else SingleLabel()
