"""Arrays on the disk (.npy): made with room for all of them, and read with a message where a file was damaged.

Many texts are two arrays, so that they are mapped into memory as well.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Int64, UInt8

from gcl_custom.errors import UserError
from gcl_custom.files import damaged, reserve, write_atomically
from gcl_custom.machine_faults import writing

NUMPY = b"\x93NUMPY"
"""First bytes of an .npy."""


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array atomically.

    Raises:
        OSError: it cannot be written.
    """
    with write_atomically(path, array.nbytes) as part, part.open("wb") as file:
        np.save(file, array)


def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new array of zeros in a file, to be written through a memory map.

    Raises:
        OSError: the disk has not enough room for it.
    """
    try:
        with writing(path, size=math.prod(shape) * np.dtype(dtype).itemsize):
            np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    except OSError:
        path.unlink(missing_ok=True)
        raise
    reserve(path)
    return np.lib.format.open_memmap(path, mode="r+")


def read_array(path: Path, remedy: str, mode: Literal["r", "r+"] | None = "r") -> np.ndarray:
    """An array that a stage has written.

    Args:
        remedy: the command that makes it again.
        mode: how to map it into memory; None reads it.

    Raises:
        UserError: it is damaged or not there.
    """
    try:
        found: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise damaged(path, error, remedy) from None
    return found


def written_array(path: Path, remedy: str) -> np.memmap[Any, Any]:
    """An array to be written on, through a memory map.

    Raises:
        UserError: it is damaged or not there.
    """
    found = read_array(path, remedy, mode="r+")
    assert isinstance(found, np.memmap)
    return found


def require_shape(path: Path, found: np.ndarray, wanted: tuple[int, ...], remedy: str) -> None:
    """Check the first dimensions of an array that was read.

    Raises:
        UserError: it has others.
    """
    if found.shape[: len(wanted)] != wanted:
        raise damaged(path, UserError(f"it holds {found.shape}, not {wanted}"), remedy)


class Texts(Sequence[str]):
    """Many texts. A text is made when it is asked for, so that a million of them cost nothing to open.

    Bytes that are no UTF-8 stay as they are, since a path may hold some.

    Args:
        content: the bytes of all texts, one text after another.
        ends: where each text ends in it.

    Raises:
        ValueError: the two do not belong together.
    """

    def __init__(self, content: UInt8[np.ndarray, " b"], ends: Int64[np.ndarray, " n"]) -> None:
        wanted = ends[-1] if len(ends) else 0
        if wanted != len(content):
            raise ValueError(f"it holds {len(content)} bytes of text, not {wanted}")
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """These texts in two new arrays."""
        whole, ends = bytearray(), []
        for text in texts:
            whole += text.encode("utf-8", "surrogateescape")
            ends.append(len(whole))
        return cls(np.frombuffer(whole, np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        start = self.ends[number - 1] if number else 0
        return self.content[start : self.ends[number]].tobytes().decode("utf-8", "surrogateescape")


class BlockedArray:
    """An array that is written block by block. After a kill, the blocks that are not on the disk are made again.

    A block is so many entries along the first dimension. A second file says which blocks are on the disk. Any process
    may make a block, and one process keeps them all.

    Args:
        path, marks: the files of the array and of its blocks. The latter is written last, so that both are there.
        block: entries of a block.
        remedy: the command that makes both files again.
    """

    def __init__(self, path: Path, marks: Path, block: int, remedy: str) -> None:
        self._block = block
        self._entries, self._done = written_array(path, remedy), written_array(marks, remedy)
        require_shape(marks, self._done, (math.ceil(len(self._entries) / block),), remedy)

    @staticmethod
    def begin(path: Path, marks: Path, dtype: Any, shape: tuple[int, ...], block: int) -> None:
        """Make both files, unless they are there.

        Raises:
            OSError: the disk has not enough room for them.
        """
        if not marks.is_file():
            new_array(path, dtype, shape)
            save_array(marks, np.zeros(math.ceil(shape[0] / block), dtype=bool))

    @property
    def pending(self) -> list[int]:
        """Numbers of the blocks that are not on the disk."""
        found: list[int] = np.flatnonzero(~self._done).tolist()
        return found

    @property
    def written(self) -> int:
        """Number of entries in blocks that are on the disk."""
        short = len(self._done) * self._block - len(self._entries) if self._done[-1:].any() else 0
        return int(self._done.sum()) * self._block - short

    def within(self, number: int) -> slice:
        """The entries of a block."""
        return slice(number * self._block, (number + 1) * self._block)

    def keep(self, number: int, entries: np.ndarray) -> None:
        """Write a block. It is on the disk when this returns."""
        self._entries[self.within(number)] = entries
        self._entries.flush()
        self._done[number] = True
        self._done.flush()
