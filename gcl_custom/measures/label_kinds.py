"""The kinds of label: one class a tile, several, or one a pixel. Whatever differs between them stands in their classes.

    n  tiles     c  classes     m  tiles that a label fraction keeps     s  seeds

``label_kind`` says what a kind is asked. A new one is one more class, in KINDS.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.measures.average_precision import mean_average_precision, no_numbers
from gcl_custom.measures.label_kind import LabelKind, NamedKind, require_fraction
from gcl_custom.measures.overlap import IGNORED, mean_iou, overlaps
from gcl_custom.measures.statistics import Drawn, Overlap, Ranked, Result, Right
from gcl_custom.randomness import derive
from gcl_custom.recipe.imagery import DataSettings

SEPARATOR = ";"
"""Between the classes of one file, in a table of labels."""
LAST_MAP = "linear_last"
"""The column of the linear probe of pixels that sees the last map alone."""
TOP_5 = "linear_top5"
"""The column of the linear probe that counts a tile as right if its class is among the five likeliest."""


MOST_PIXELS = 2**20
"""Of a tile."""


def within(numbers: Shaped[Tensor, "*_"], low: int, high: int) -> bool:
    """Whether all numbers lie between two others, both included."""
    return not numbers.numel() or bool(low <= numbers.min() and numbers.max() <= high)


class SingleLabel(NamedKind):
    """One class a tile, stored as its number, -1 for none: cross-entropy, and top-1 accuracy."""

    stored_as = False
    measure = "top-1"
    figure = "accuracy"
    caption = "Top-1 on test tiles in %, unless top-5 is named, with 95 % intervals."
    report_caption = "Top-1 accuracy in percent, unless top-5 is named"
    axis = "top-1 accuracy on test tiles, %"
    tile_interval = "Wilson"
    draws_shots = draws_shares = True

    def names(self, text: str | None) -> list[str]:
        return [] if text is None else [text]

    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Int[Tensor, "n"]:
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([-1 if text is None else numbers.get(text, -1) for text in texts], dtype=torch.int64)

    def stores(self, labels: Shaped[Tensor, "n *_"], classes: int) -> bool:
        return (labels.ndim, labels.dtype) == (1, torch.int64) and within(labels, -1, classes - 1)

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
        require_fraction(fraction)
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


class MultiLabel(NamedKind):
    """Several classes a tile, stored as whether it bears each: a binary cross-entropy for each, and mAP."""

    stored_as = True
    measure = "mAP"
    figure = "mAP"
    caption = "mAP (mean average precision over classes) on test tiles in %, with 95 % intervals."
    report_caption = "mAP (mean average precision over classes) in percent"
    axis = "mAP on test tiles, %"
    tile_interval = "bootstrap"
    # A tile drawn for one class brings others along, so "5 labels a class" would mean little.
    draws_shots = draws_shares = False
    no_confusion = "With several labels a tile no class is taken for another, so there is no matrix."

    def names(self, text: str | None) -> list[str]:
        return [] if text is None else text.split(SEPARATOR)

    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Bool[Tensor, "n c"]:
        borne = [set(self.names(text)) for text in texts]
        return torch.tensor([[name in names for name in classes] for names in borne], dtype=torch.bool)

    def stores(self, labels: Shaped[Tensor, "n *_"], classes: int) -> bool:
        return (labels.shape[1:], labels.dtype) == ((classes,), torch.bool) and within(labels.view(torch.uint8), 0, 1)

    def listed(self, labels: Bool[Tensor, "n c"]) -> list[list[int]]:
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

    def remarks(self, labels: Bool[Tensor, "n c"], classes: Sequence[str]) -> list[str]:
        return ["several labels a tile: scores are mean average precision (mAP)"]

    def subset(self, labels: Bool[Tensor, "n c"], fraction: float, seed: int) -> Int[Tensor, "m"]:
        """First come the tiles that bring in a class, the rarest class first; then the others, in a random order."""
        require_fraction(fraction)
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


class Masks(LabelKind):
    """One class a pixel: cross-entropy over pixels, and mIoU.

    Of each tile the number of pixels of each class is stored. The masks themselves lie beside the tiles. A tile without
    a pixel that has a class has no label.
    """

    stored_as = "masks"
    dense = True
    measure = "mIoU"
    figure = "mIoU"
    caption = (
        "mIoU (mean over classes of intersection over union) on the pixels of test tiles in %, with 95 % intervals."
    )
    report_caption = "mIoU (mean over classes of intersection over union, over all pixels of the test tiles) in percent"
    axis = "mIoU on test tiles, %"
    tile_interval = "bootstrap"
    draws_shots = False  # a tile has pixels of several classes, so "5 labels a class" would mean little
    draws_shares = True
    no_confusion = "Intersection over union by class, in percent; a tile has pixels of several, so there is no matrix."
    probes_caption = (
        "Linear probe: a class for each pixel from two maps of the frozen backbone, its last and one of an earlier "
        "layer, enlarged to the tile, all labels; or from the last map alone"
    )
    floors = ("pixels", "surroundings")
    floors_caption = (
        "The values of a pixel, and these with mean and deviation of each band in squares around it, need no network "
        "and are computed once; their intervals are over test tiles."
    )

    def stores(self, labels: Shaped[Tensor, "n *_"], classes: int) -> bool:
        return (labels.shape[1:], labels.dtype) == ((classes,), torch.int64) and within(labels, 0, MOST_PIXELS)

    def has_label(self, labels: Int[Tensor, "n c"]) -> Bool[Tensor, "n"]:
        return labels.any(1)

    def bears(self, labels: Int[Tensor, "n c"], label: int) -> Bool[Tensor, "n"]:
        return labels[:, label] > 0

    def strata(self, labels: Int[Tensor, "n c"]) -> Int[Tensor, "n"]:
        """Of its classes, the one that the fewest tiles bear."""
        return MULTI_LABEL.strata(labels > 0)

    def subset(self, labels: Int[Tensor, "n c"], fraction: float, seed: int) -> Int[Tensor, "m"]:
        """First come the tiles that bring in a class, the rarest class first; then the others, in a random order."""
        return MULTI_LABEL.subset(labels > 0, fraction, seed)

    def only_class(self, labels: Int[Tensor, "n c"]) -> int | None:
        found = labels.sum(0).nonzero().flatten().tolist()
        return found[0] if len(found) == 1 else None

    def of_whole_tiles(self, labels: Int[Tensor, "n c"]) -> tuple[LabelKind, Bool[Tensor, "n c"]]:
        """Which classes each tile bears."""
        return MULTI_LABEL, labels > 0

    def remarks(self, labels: Int[Tensor, "n c"], classes: Sequence[str]) -> list[str]:
        pixels = labels.sum(0)
        shares = zip(classes, (100 * pixels / pixels.sum().clamp(min=1)).tolist(), strict=True)
        listed = ", ".join(f"{name} {share:.3g} %" for name, share in shares)
        return [f"a class a pixel: scores are mean intersection over union (mIoU); pixels: {listed}"]

    def loss(
        self, logits: Float[Tensor, "n c *_"], targets: Int[Tensor, "n *_"] | UInt8[Tensor, "n *_"]
    ) -> Float[Tensor, ""]:
        """Mean over the pixels that have a class; 0 where none has."""
        each = F.cross_entropy(logits, targets.long(), ignore_index=IGNORED, reduction="sum")
        return each / (targets != IGNORED).sum().clamp(min=1)

    def votes(self, labels: Int[Tensor, "n c"], classes: int) -> Bool[Tensor, "n c"]:
        return labels > 0

    def decide(self, logits: Float[Tensor, "n c *_"]) -> Int[Tensor, "n *_"]:
        if unordered := int(logits.isnan().flatten(1).any(1).sum()):  # argmax would take them for the greatest
            raise no_numbers(unordered, len(logits))
        return logits.argmax(1).cpu()

    def kept(
        self, decided: Int[Tensor, "n h w"], targets: UInt8[Tensor, "n h w"], classes: int
    ) -> Int[Tensor, "n c 2"]:
        """Pixels of each tile in the intersection and in the union of what is said and what is true, for each class."""
        return overlaps(decided, targets, classes)

    def score(self, kept: Int[Tensor, "n c 2"], labels: Int[Tensor, "n c"]) -> float:
        return mean_iou(kept.cpu().numpy(), labels.cpu().numpy())

    def probes(self, classes: int) -> tuple[str, ...]:
        return "linear", LAST_MAP

    def result(self, predicted: Int[np.ndarray, "s n c 2"], truth: Int[np.ndarray, "n c"]) -> Result:
        return Overlap(predicted[:, None], truth)

    def drawn(self, predicted: Int[np.ndarray, "s r n c 2"], truth: Int[np.ndarray, "n c"]) -> Result:
        return Overlap(predicted, truth)

    def by_class(self, predicted: Int[np.ndarray, "s n c 2"], truth: Int[np.ndarray, "n c"]) -> list[float | None]:
        """Intersection over union; None of a class that does not occur."""
        inside, union = predicted.sum((0, 1)).T
        occur = truth.sum(0) > 0
        return [float(i / u) if there else None for i, u, there in zip(inside, union, occur, strict=True)]


SINGLE_LABEL, MULTI_LABEL, MASKS = SingleLabel(), MultiLabel(), Masks()
KINDS: tuple[LabelKind, ...] = (SINGLE_LABEL, MULTI_LABEL, MASKS)


def kind_in_recipe(data: DataSettings) -> NamedKind | None:
    """The kind of a table's labels as the recipe states it; None where it leaves that to the table."""
    return MULTI_LABEL if data.multi_label else None


def kind_in_table(texts: Iterable[str]) -> NamedKind:
    """The kind of a table's labels as the table shows it: several a tile where some file has several."""
    return MULTI_LABEL if any(SEPARATOR in text for text in texts) else SINGLE_LABEL


def kind_stored(name: bool | str, labels: Shaped[Tensor, "n *_"], classes: int) -> LabelKind:
    """The kind of the labels in a tile store.

    Raises:
        ValueError: there is no kind of this name, it stores other labels, or a number among them is no class.
    """
    for kind in KINDS:
        if kind.stored_as == name and kind.stores(labels, classes):
            return kind
    raise ValueError(
        f"its labels, {labels.dtype} {tuple(labels.shape)}, are not of kind {name} or not of {classes} classes"
    )


def kind_scored_by(measure: str) -> LabelKind:
    """The kind of label whose scores a scores.json holds."""
    return next(kind for kind in KINDS if kind.measure == measure)
