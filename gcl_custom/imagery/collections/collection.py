"""What all collections have in common.

A collection counts as a folder: each tile has a path relative to the root, such as ``forest/a.jpg`` in an archive that
is the root itself, ``train-000.tar/a.jpg`` below a folder of shards, or ``train.parquet/0000012`` for a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcl_custom.errors import UserError
from gcl_custom.measures.label_kinds import SEPARATOR

MOST_BYTES = 2**28
"""Most bytes that one tile may take in a collection, as it is read; an archive may declare any size."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".jp2")
"""Ends of the names of images."""


class Unreadable(Exception):  # noqa: N818  says what the tile is
    """A tile that cannot be read from its file: ``kind`` groups equal problems, ``detail`` is about this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} ({detail})" if detail else kind)
        self.kind, self.detail = kind, detail


DAMAGED = "truncated or damaged"
"""The kind of what cannot be read to its end."""


def require_small(size: int) -> None:
    """Refuse to read more at once than a tile may take.

    Raises:
        Unreadable: it is too large.
    """
    if size > MOST_BYTES:
        raise Unreadable("too large", f"{size:,} bytes; at most {MOST_BYTES:,} are read of a tile in a collection")


class Told(NamedTuple):
    """What a collection says of a tile."""

    words: tuple[str, ...]
    """Words among which one for its split may be, such as train or val."""
    label: str | None
    """Name of its class; several are joined by semicolons."""


@dataclass(frozen=True)
class Labelled:
    """What a collection says of its tiles by other means than folders.

    Attributes:
        told: by path.
        classes: in label order.
        several: whether a tile may have several labels.
        notes: for the user.
    """

    told: Mapping[str, Told]
    classes: Sequence[str]
    several: bool = False
    notes: Sequence[str] = ()


class Collection(ABC):
    """Files that hold many tiles each. Reading from several threads at once is safe.

    Attributes:
        images: paths of the tiles, sorted.
        notes: for the user, on what was passed over.
    """

    images: Sequence[str]
    notes: Sequence[str] = ()

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The bytes of a tile, as a file of it would have them.

        Raises:
            Unreadable: they are not there, damaged, or too many.
        """

    @abstractmethod
    def file_of(self, path: str) -> Path:
        """The file that a tile lies in."""

    @abstractmethod
    def holds(self, path: str) -> bool:
        """Whether there is a tile of this path."""

    def labelled(self, key: str | None) -> Labelled | None:
        """What is said of the tiles by other means than folders; None if nothing is.

        Args:
            key: column that holds the labels, as the user names it; None to look for it.

        Raises:
            UserError: there is no such column, or what it holds is no label.
        """
        return None

    def place(self, path: str) -> tuple[str, int]:
        """Where a tile lies: reading is fastest in this order."""
        return path, 0

    def placed(self, path: str) -> str:
        """The path by which the layout of folders is recognised: other parts may say nothing."""
        return path

    def table(self, path: str) -> bytes | None:
        """The bytes of another file of the collection, such as a table of labels; None if there is none."""
        return None


def row_name(number: int) -> str:
    """The last part of the path of a row, with leading zeros, so that paths sort by number."""
    return f"{number:07d}"


GivenLabel = Sequence[int | str] | None
"""Numbers or names of a tile's classes, as a file has them. A negative number stands for no label."""


def in_words(given: Sequence[GivenLabel], names: Sequence[str] | None) -> tuple[list[str | None], list[str], bool]:
    """The label of each tile as a text, the classes in label order, and whether a tile may have several labels.

    Args:
        names: of the classes, by their numbers; without them, numbers are names.

    Raises:
        UserError: a number has no name.
    """
    numbers = {label for labels in given for label in labels or () if isinstance(label, int) and label >= 0}
    if names is not None and numbers and max(numbers) >= len(names):
        raise UserError(f"data.root: label {max(numbers)} has no name: there are {len(names)}, counted from 0")
    several = any(labels is not None and len(labels) > 1 for labels in given)

    def text(label: int | str) -> str:
        name = label if isinstance(label, str) else names[label] if names is not None else str(label)
        return name.replace(SEPARATOR, ",") if several else name

    texts = [
        SEPARATOR.join(map(text, there)) or None
        for labels in given
        for there in [[label for label in labels or () if not isinstance(label, int) or label >= 0]]
    ]
    order = [text(number) for number in (range(len(names)) if names is not None else sorted(numbers))]
    others = {text(label) for labels in given for label in labels or () if isinstance(label, str)}
    return texts, list(dict.fromkeys([*order, *sorted(others)])), several
