"""A tile's identity: the file that it is cut from, and where in it.

Everything that belongs to a tile goes by its source: digest, slot, label, split, embedding and place.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, overload

WINDOWED = re.compile(r"(?s:(.+))#(\d+),(\d+),(\d+),(\d+)")


class Window(NamedTuple):
    """A rectangle of an upright picture, in pixels from its upper left corner."""

    column: int
    row: int
    width: int
    height: int

    @property
    def ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First row and the one after the last, first column and the one after the last."""
        return (self.row, self.row + self.height), (self.column, self.column + self.width)


class Source(NamedTuple):
    """A file below a root, or a tile in a collection, which counts as a folder there; or a window of one.

    Its text is the path, and for a window ``path#column,row,width,height``. The four numbers have leading zeros, so
    that the texts of a file's windows sort by column, then row. The path of an image ends in a suffix such as .tif
    or is the number of a row, so no path looks like the text of a window.
    """

    path: str
    """Relative to the root, with forward slashes."""
    window: Window | None = None
    """None for the whole file."""

    def __str__(self) -> str:
        return f"{self.path}#{','.join(f'{number:07d}' for number in self.window)}" if self.window else self.path

    @classmethod
    def parse(cls, text: str) -> "Source":
        """The source with this text."""
        found = WINDOWED.fullmatch(text)
        return cls(found[1], Window(*map(int, found.groups()[1:]))) if found else cls(text)


class Sources(Sequence[Source]):
    """The sources with these texts, each parsed when it is asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, place: int) -> Source: ...

    @overload
    def __getitem__(self, place: slice) -> list[Source]: ...

    def __getitem__(self, place: int | slice) -> Source | list[Source]:
        found = self.texts[place]
        return Source.parse(found) if isinstance(found, str) else [Source.parse(text) for text in found]
