"""The tiles that packing would find, as a check and a new recipe look at them."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from gcl_custom.check.inventory import Inventory
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.places.coordinates import Places
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kind import LabelKind


@dataclass(frozen=True)
class FoundTiles:
    """The tiles that packing would find."""

    form: Form
    rgb: bool
    classes: list[str]
    labels: Shaped[Tensor, "n *_"]
    """As in a tile store."""
    kind: LabelKind
    split: Int[Tensor, " n"]
    places: Places | None = None
    """Longitude and latitude of each tile."""
    told: str = ""
    """Which split this is, in words."""
    inventory: Inventory | None = None
    """What was seen of the files; None where none is there yet."""
    faults: Sequence[str] = ()
    """Why packing would stop."""

    def count(self, split: SplitName, label: int | None = None) -> int:
        chosen = self.split == SPLITS.index(split)
        if label is not None:
            chosen = chosen & (self.kind.bears(self.labels, label) if label >= 0 else ~self.has_label)
        return int(chosen.sum())

    @property
    def has_label(self) -> Bool[Tensor, " n"]:
        return self.kind.has_label(self.labels)

    @property
    def labelled(self) -> Shaped[Tensor, "m *_"]:
        """Labels of the train tiles that have one."""
        return self.labels[(self.split == 0) & self.has_label]

    def share(self, fraction: float) -> int:
        """Number of labelled train tiles that a label fraction leaves."""
        return len(self.kind.subset(self.labelled, fraction, seed=0))
