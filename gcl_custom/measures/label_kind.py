"""What a kind of label is: the interface that imagery, training, scoring and the report ask.

    n  tiles     c  classes     m  tiles that a label fraction keeps     s  seeds     r  draws of labels

A kind of label says how labels are read and stored, which tiles a label fraction keeps, what a training minimises, what
is kept of a network's output, and how that is scored and compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from gcl_custom.measures.statistics import Result


def require_fraction(fraction: float) -> None:
    """Check a label fraction."""
    if not 0 < fraction <= 1:
        raise ValueError(f"a label fraction lies between 0 and 1, not {fraction}")


class LabelKind(ABC):
    """One kind of label. Stored labels are a tensor with a row for each tile."""

    stored_as: bool | str
    """Its name in the tile store, under ``multi_label``."""
    dense: bool = False
    """Whether each pixel has a label, so that networks are scored by the maps that they make of a tile."""
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
    draws_shots: bool
    """Whether probes with so many labels a class are made, of several draws."""
    draws_shares: bool
    """Whether probes with shares of the labels are made, of several draws."""
    probes_caption: str = "Linear probe and kNN: frozen backbone, all labels"
    """What the probes are, as the beginning of a sentence."""
    floors: tuple[str, ...] = ("statistics", "patches")
    """Features that need no network and stand beside the backbones."""
    floors_caption: str = (
        "Statistics of each band (mean, deviation, minimum, maximum) and words of patches (k-means, with these "
        "statistics) need no network and are computed once; their intervals are over test tiles."
    )
    """What the floors are, below a table."""
    no_confusion: str = ""
    """Why there is no confusion matrix, where there is none."""

    # ---------------------------------------------------------------- reading and storing

    @abstractmethod
    def stores(self, labels: Shaped[Tensor, "n *_"], classes: int) -> bool:
        """Whether labels are of the type and shape that this kind stores."""

    def listed(self, labels: Shaped[Tensor, "n *_"]) -> list[Any]:
        """Labels as the digest of packed tiles reads them."""
        return labels.tolist()

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

    def of_whole_tiles(self, labels: Shaped[Tensor, "n *_"]) -> tuple["LabelKind", Shaped[Tensor, "n *_"]]:
        """The kind and the labels of tiles as a whole, for what sees no pixels of them."""
        return self, labels

    def remarks(self, labels: Shaped[Tensor, "n *_"], classes: Sequence[str]) -> list[str]:
        """What ``check`` says of the labels, beside how many tiles each class has."""
        return []

    # ---------------------------------------------------------------- training and scoring

    @abstractmethod
    def loss(self, logits: Float[Tensor, "n c *_"], targets: Shaped[Tensor, "n *_"]) -> Float[Tensor, ""]:
        """What a training with labels minimises. Targets are the labels, or the masks of a dense kind."""

    @abstractmethod
    def votes(self, labels: Shaped[Tensor, "n *_"], classes: int) -> Num[Tensor, "n c"] | Bool[Tensor, "n c"]:
        """What each labelled tile says of each class when it is the neighbour of another tile."""

    @abstractmethod
    def decide(self, logits: Float[Tensor, "n c *_"]) -> Num[Tensor, "n *_"]:
        """What a classifier's output says of each tile, or of each of its pixels, on the CPU."""

    def kept(self, decided: Num[Tensor, "n *_"], targets: Shaped[Tensor, "n *_"], classes: int) -> Num[Tensor, "n *_"]:
        """What is kept of it to be scored."""
        return decided

    @abstractmethod
    def score(self, kept: Num[Tensor, "n *_"], labels: Shaped[Tensor, "n *_"]) -> float:
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

    def by_class(
        self, predicted: Num[np.ndarray, "s n *_"], truth: Shaped[np.ndarray, "n *_"]
    ) -> list[float | None] | None:
        """The score of each class, over all seeds together, where scores are means over classes of such."""
        return None


class NamedKind(LabelKind):
    """A kind whose labels are names of classes, in folders or in a table."""

    @abstractmethod
    def names(self, text: str | None) -> list[str]:
        """The classes that a file's label names; none without a label."""

    @abstractmethod
    def encode(self, texts: Sequence[str | None], classes: Sequence[str]) -> Shaped[Tensor, "n *_"]:
        """The files' labels as they are stored; names that are not among the classes do not count."""
