"""What a label is: one class a tile, or several. Whatever differs between the two stands here.

    n  tiles     c  classes     m  tiles that a label fraction keeps     s  seeds

A kind of label says how labels are read and stored, which tiles a label fraction keeps, what a training minimises, what
is kept of a network's output, and how that is scored and compared. A new kind is one more class here, in KINDS.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.measures.average_precision import mean_average_precision, no_numbers
from gcl_custom.measures.statistics import Drawn, Ranked, Result, Right
from gcl_custom.randomness import derive
from gcl_custom.recipe.imagery import DataSettings

SEPARATOR = ";"
"""Between the classes of one file, in a table of labels."""
TOP_5 = "linear_top5"
"""The column of the linear probe that counts a tile as right if its class is among the five likeliest."""


class LabelKind(ABC):
    """One kind of label. Stored labels are a tensor with a row for each tile."""

    stored_as: bool
    """The value of ``multi_label`` in tiles.json."""
    measure: str
    """What its scores are, in scores.json and in sentences."""
    figure: str
    """The name of its score in the history of a training."""
    caption: str
    """What the numbers of a table on the console are."""
    report_caption: str
    """The same in the report, as the beginning of a sentence."""
    axis: str
    """The same along the axis of a plot."""
    tile_interval: str
    """The kind of its interval over test tiles."""
    draws_few: bool
    """Whether probes with few labels are made, of several draws."""
    no_confusion: str = ""
    """Why there is no confusion matrix, where there is none."""

    # ---------------------------------------------------------------- reading and storing

    @abstractmethod
    def names(self, text: str | None) -> list[str]:
        """The classes that a file's label names; none without a label."""

    @abstractmethod
    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Shaped[Tensor, "n *_"]:
        """The files' labels as they are stored; names that are not among the classes do not count."""

    @abstractmethod
    def from_json(self, stored: list[Any], classes: int) -> Shaped[Tensor, "n *_"]:
        """Labels from tiles.json."""

    def to_json(self, labels: Shaped[Tensor, "n *_"]) -> list[Any]:
        """Labels for tiles.json."""
        return labels.tolist()

    def entries(self, labels: Shaped[Tensor, "n *_"]) -> dict[str, Any]:
        """What tiles.json holds of them: the kind, and the labels."""
        return {"multi_label": self.stored_as, "labels": self.to_json(labels)}

    # ---------------------------------------------------------------- which tiles

    @abstractmethod
    def has_label(self, labels: Shaped[Tensor, "n *_"]) -> Bool[Tensor, "n"]:
        """Whether each tile has a label."""

    @abstractmethod
    def bears(self, labels: Shaped[Tensor, "n *_"], label: int) -> Bool[Tensor, "n"]:
        """Whether each tile is of a class."""

    @abstractmethod
    def strata(self, labels: Shaped[Tensor, "n *_"]) -> Int[Tensor, "n"]:
        """The class with which each tile is divided into splits; -1 for none."""

    @abstractmethod
    def subset(self, labels: Shaped[Tensor, "n *_"], fraction: float, seed: int) -> Int[Tensor, "m"]:
        """Positions, ascending, of a random share of the labelled tiles, with every class among them.

        A small fraction of few labels is larger than its name, since no class is lost. With the same seed, a smaller
        fraction is a part of a larger one.
        """

    def shots(self, labels: Shaped[Tensor, "n *_"], each: int, seed: int) -> Int[Tensor, "m"]:
        """Positions, ascending, of so many random tiles of each class, or of all that it has.

        With the same seed, fewer are a part of more.
        """
        raise NotImplementedError(f"{self.measure} has no draws of few labels")

    def only_class(self, labels: Shaped[Tensor, "n *_"]) -> int | None:
        """The class of all tiles, where there is only one and so nothing to tell apart."""
        return None

    # ---------------------------------------------------------------- training and scoring

    @abstractmethod
    def loss(self, logits: Float[Tensor, "n c"], labels: Shaped[Tensor, "n *_"]) -> Float[Tensor, ""]:
        """What a training with labels minimises."""

    @abstractmethod
    def votes(self, labels: Shaped[Tensor, "n *_"], classes: int) -> Num[Tensor, "n c"] | Bool[Tensor, "n c"]:
        """What each labelled tile says of each class when it is the neighbour of another tile."""

    @abstractmethod
    def decide(self, logits: Float[Tensor, "n c"]) -> Num[Tensor, "n *_"]:
        """What is kept of a classifier's output, on the CPU."""

    @abstractmethod
    def score(self, decided: Num[Tensor, "n *_"], labels: Shaped[Tensor, "n *_"]) -> float:
        """How good it is, from 0 to 1."""

    def probes(self, classes: int) -> tuple[str, ...]:
        """The columns of a probe, in their order."""
        return "linear", "knn", "knn5"

    @abstractmethod
    def result(self, predicted: Num[np.ndarray, "s n *_"], truth: Shaped[np.ndarray, "n *_"]) -> Result:
        """What each seed's classifier said of the test tiles, beside their labels: to be scored and compared."""

    def drawn(self, predicted: Num[np.ndarray, "s r n"], truth: Shaped[np.ndarray, "n *_"]) -> Result:
        """The same of a classifier that each of r draws of labels has trained anew."""
        raise NotImplementedError(f"{self.measure} has no draws of few labels")

    def confusion(
        self, predicted: Num[np.ndarray, "s n *_"], truth: Shaped[np.ndarray, "n *_"], classes: int
    ) -> list[list[int]] | None:
        """Counts of tiles, summed over seeds: a row for each true class, a column for each predicted one."""
        return None


class SingleLabel(LabelKind):
    """One class a tile, stored as its number, -1 for none: cross-entropy, and top-1 accuracy."""

    stored_as = False
    measure = "top-1"
    figure = "accuracy"
    caption = "Top-1 on test tiles in %, unless top-5 is named, with 95 % intervals."
    report_caption = "Top-1 accuracy in percent, unless top-5 is named"
    axis = "top-1 accuracy on test tiles, %"
    tile_interval = "Wilson"
    draws_few = True

    def names(self, text: str | None) -> list[str]:
        return [] if text is None else [text]

    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Int[Tensor, "n"]:
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([-1 if text is None else numbers.get(text, -1) for text in texts], dtype=torch.int64)

    def from_json(self, stored: list[int], classes: int) -> Int[Tensor, "n"]:
        return torch.tensor(stored, dtype=torch.int64)

    def has_label(self, labels: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
        return labels >= 0

    def bears(self, labels: Int[Tensor, "n"], label: int) -> Bool[Tensor, "n"]:
        return labels == label

    def strata(self, labels: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        return labels

    def subset(self, labels: Int[Tensor, "n"], fraction: float, seed: int) -> Int[Tensor, "m"]:
        """Drawn class by class, at least one tile of each.

        Raises:
            UserError: no tile has a label.
        """
        _require_fraction(fraction)
        kept = self._by_class(labels, seed, lambda members: max(1, round(fraction * members)))
        if not kept:
            raise UserError(
                f"{fraction:.3g} of the labels was asked for (compare.fractions), but no training tile has a label. "
                f"Put the tiles of each class in a folder of its own, or state the classes in a card (data.card)"
            )
        return torch.cat(kept).sort().values

    def shots(self, labels: Int[Tensor, "n"], each: int, seed: int) -> Int[Tensor, "m"]:
        return torch.cat(self._by_class(labels, seed, lambda members: each)).sort().values

    @staticmethod
    def _by_class(labels: Int[Tensor, "n"], seed: int, count: Callable[[int], int]) -> list[Int[Tensor, "m"]]:
        """Of each class the first tiles of a random order, so many as ``count`` says for its number of tiles."""
        kept = []
        for label in labels[labels >= 0].unique().tolist():
            members = torch.nonzero(labels == label).flatten()
            rng = torch.Generator().manual_seed(derive(seed, "label fraction", label))
            order = torch.randperm(len(members), generator=rng)
            kept.append(members[order[: count(len(members))]])
        return kept

    def only_class(self, labels: Int[Tensor, "n"]) -> int | None:
        found = set(labels.tolist())
        return found.pop() if len(found) == 1 else None

    def loss(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        return F.cross_entropy(logits, labels)

    def votes(self, labels: Int[Tensor, "n"], classes: int) -> Int[Tensor, "n c"]:
        return F.one_hot(labels, classes)

    def decide(self, logits: Float[Tensor, "n c"]) -> Int[Tensor, "n"]:
        if unordered := int(logits.isnan().any(1).sum()):  # argmax would take them for the greatest
            raise no_numbers(unordered, len(logits))
        return logits.argmax(1).cpu()

    def score(self, decided: Int[Tensor, "n"], labels: Int[Tensor, "n"]) -> float:
        return (decided.cpu() == labels.cpu()).double().mean().item()

    def probes(self, classes: int) -> tuple[str, ...]:
        """With five classes or fewer, the true one is always among the five likeliest."""
        return ("linear", TOP_5, "knn", "knn5") if classes > 5 else ("linear", "knn", "knn5")

    def result(
        self, predicted: Int[np.ndarray, "s n"] | Int[np.ndarray, "s n 5"], truth: Int[np.ndarray, "n"]
    ) -> Result:
        """A tile is right where its class, or one of its five likeliest, is the true one."""
        return Right(predicted == truth if predicted.ndim == 2 else (predicted == truth[:, None]).any(axis=2))

    def drawn(self, predicted: Int[np.ndarray, "s r n"], truth: Int[np.ndarray, "n"]) -> Result:
        return Drawn(predicted == truth)

    def confusion(
        self, predicted: Int[np.ndarray, "s n"], truth: Int[np.ndarray, "n"], classes: int
    ) -> list[list[int]] | None:
        counts = np.bincount((truth * classes + predicted).reshape(-1), minlength=classes * classes)
        found: list[list[int]] = counts.reshape(classes, classes).tolist()
        return found


class MultiLabel(LabelKind):
    """Several classes a tile, stored as whether it bears each: a binary cross-entropy for each, and mAP."""

    stored_as = True
    measure = "mAP"
    figure = "mAP"
    caption = "mAP (mean average precision over classes) on test tiles in %, with 95 % intervals."
    report_caption = "mAP (mean average precision over classes) in percent"
    axis = "mAP on test tiles, %"
    tile_interval = "bootstrap"
    draws_few = False  # a tile drawn for one class brings others along, so "5 labels a class" would mean little
    no_confusion = "With several labels a tile no class is taken for another, so there is no matrix."

    def names(self, text: str | None) -> list[str]:
        return [] if text is None else text.split(SEPARATOR)

    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Bool[Tensor, "n c"]:
        borne = [set(self.names(text)) for text in texts]
        return torch.tensor([[name in names for name in classes] for names in borne], dtype=torch.bool)

    def from_json(self, stored: list[list[int]], classes: int) -> Bool[Tensor, "n c"]:
        labels = torch.zeros(len(stored), classes, dtype=torch.bool)
        for tile, borne in enumerate(stored):
            labels[tile, borne] = True
        return labels

    def to_json(self, labels: Bool[Tensor, "n c"]) -> list[list[int]]:
        return [row.nonzero().flatten().tolist() for row in labels]

    def has_label(self, labels: Bool[Tensor, "n c"]) -> Bool[Tensor, "n"]:
        return labels.any(1)

    def bears(self, labels: Bool[Tensor, "n c"], label: int) -> Bool[Tensor, "n"]:
        return labels[:, label]

    def strata(self, labels: Bool[Tensor, "n c"]) -> Int[Tensor, "n"]:
        """Of its classes, the one that the fewest tiles bear."""
        if not labels.shape[1]:
            return torch.full((len(labels),), -1)
        counts = torch.where(labels, labels.sum(0), len(labels) + 1)
        return torch.where(labels.any(1), counts.argmin(1), -1)

    def subset(self, labels: Bool[Tensor, "n c"], fraction: float, seed: int) -> Int[Tensor, "m"]:
        """First come the tiles that bring in a class, the rarest class first; then the others, in a random order."""
        _require_fraction(fraction)
        rng = torch.Generator().manual_seed(derive(seed, "label fraction"))
        order = torch.randperm(len(labels), generator=rng).tolist()
        counts = labels.sum(0)
        first: list[int] = []
        for label in sorted(range(labels.shape[1]), key=lambda label: (int(counts[label]), label)):
            if counts[label] and not labels[first, label].any():
                first.append(next(tile for tile in order if labels[tile, label]))
        covering = set(first)
        ranked = [*first, *(tile for tile in order if tile not in covering)]
        return torch.tensor(ranked[: max(len(first), round(fraction * len(labels)))]).sort().values

    def loss(self, logits: Float[Tensor, "n c"], labels: Bool[Tensor, "n c"]) -> Float[Tensor, ""]:
        """Summed over classes."""
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none").sum(1).mean()

    def votes(self, labels: Bool[Tensor, "n c"], classes: int) -> Bool[Tensor, "n c"]:
        return labels

    def decide(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """The scores, rounded before they are used, so that results follow from what is kept."""
        return logits.double().cpu().round(decimals=4)

    def score(self, decided: Float[Tensor, "n c"], labels: Bool[Tensor, "n c"]) -> float:
        return mean_average_precision(decided.cpu().numpy(), labels.cpu().numpy())

    def result(self, predicted: Float[np.ndarray, "s n c"], truth: Bool[np.ndarray, "n c"]) -> Result:
        return Ranked(predicted, truth)


SINGLE_LABEL, MULTI_LABEL = SingleLabel(), MultiLabel()
KINDS: tuple[LabelKind, ...] = (SINGLE_LABEL, MULTI_LABEL)


def kind_in_recipe(data: DataSettings) -> LabelKind | None:
    """The kind of a table's labels as the recipe states it; None where it leaves that to the table."""
    return MULTI_LABEL if data.multi_label else None


def kind_in_table(texts: Iterable[str]) -> LabelKind:
    """The kind of a table's labels as the table shows it: several a tile where some file has several."""
    return MULTI_LABEL if any(SEPARATOR in text for text in texts) else SINGLE_LABEL


def stored_labels(about: Mapping[str, Any]) -> tuple[LabelKind, Shaped[Tensor, "n *_"]]:
    """The kind of label and the labels that tiles.json holds."""
    kind = next(kind for kind in KINDS if kind.stored_as == about["multi_label"])
    return kind, kind.from_json(about["labels"], len(about["classes"]))


def kind_scored_by(measure: str) -> LabelKind:
    """The kind of label whose scores a scores.json holds."""
    return next(kind for kind in KINDS if kind.measure == measure)


def _require_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"a label fraction lies between 0 and 1, not {fraction}")
