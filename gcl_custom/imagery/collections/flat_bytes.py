"""Bytes that can be read from any place: those of a plain file, or of one that is deflated, without unpacking it.

Deflate can only be undone from its beginning. The state of the decompressor is therefore remembered every now and then,
and reading begins at the last state before what is asked for. A state takes about 40 kB; at most 1,024 are kept.
"""

import os
import threading
import weakref
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from gcl_custom.imagery.collections.collection import DAMAGED, Unreadable, require_small

CHUNK = 2**14
"""Deflated bytes that are undone at once: they give 17 MB at most, whatever they hold."""
SPAN = 2**20
"""Undone bytes between two remembered states, as long as there are few."""
MOST_STATES = 1024
KEPT = 2**23
"""Undone bytes that are kept, for threads that ask in a slightly other order."""
GZIP, RAW = 31, -15
"""Window sizes by which zlib knows the two forms."""


class FlatBytes(ABC):
    """Bytes in a row. It can also be read and sought in like a file, from one thread."""

    _position = 0

    @abstractmethod
    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer where they end before. Safe from several threads.

        Raises:
            Unreadable: they are damaged or cut off, or so many are no tile.
        """

    def exactly(self, offset: int, size: int) -> bytes:
        """As many bytes as asked for.

        Raises:
            Unreadable: also if there are fewer.
        """
        found = self.read_at(offset, size)
        if len(found) < size:
            raise Unreadable(DAMAGED, f"{len(found):,} of {size:,} bytes are there")
        return found

    def read(self, size: int) -> bytes:
        found = self.read_at(self._position, size)
        self._position += len(found)
        return found

    def seek(self, offset: int) -> int:
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position


def _descriptor(owner: FlatBytes, path: Path) -> int:
    """A file that stays open as long as its owner is in use."""
    found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    weakref.finalize(owner, os.close, found)
    return found


class PlainBytes(FlatBytes):
    """The bytes of a file, from a place in it on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._file = _descriptor(self, path)
        self._start = start

    def read_at(self, offset: int, size: int) -> bytes:
        require_small(size)
        return os.pread(self._file, size, self._start + offset)


class _State(NamedTuple):
    undone: int
    """Number of bytes that were undone before."""
    taken: int
    """Number of deflated bytes that were taken before."""
    decompressor: Any


class InflatedBytes(FlatBytes):
    """What deflated bytes of a file give.

    Args:
        start: place of the first deflated byte.
        form: GZIP, perhaps of several members, or RAW.
    """

    def __init__(self, path: Path, start: int = 0, form: int = GZIP) -> None:
        self._file = _descriptor(self, path)
        self._start, self._form = start, form
        self._lock = threading.Lock()
        self._span = SPAN
        self._states = [_State(0, 0, zlib.decompressobj(form))]
        self._kept: deque[tuple[int, bytes]] = deque()
        self._resume(self._states[0])

    def read_at(self, offset: int, size: int) -> bytes:
        require_small(size)
        with self._lock:
            nearest = self._states[bisect_right(self._states, offset, key=lambda state: state.undone) - 1]
            kept_from = self._kept[0][0] if self._kept else self._undone
            if offset < kept_from or nearest.undone > self._undone:
                self._resume(nearest)
            parts = []
            while size > 0:
                part = self._there(offset)[:size]
                if not part and not self._advance():
                    break
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            return b"".join(parts)

    def _there(self, offset: int) -> bytes:
        """What is undone already of the bytes from an offset on."""
        for start, chunk in reversed(self._kept):
            if start <= offset < start + len(chunk):
                return chunk[offset - start :]
        return b""

    def _resume(self, state: _State) -> None:
        self._undone, self._taken = state.undone, state.taken
        self._decompressor = state.decompressor.copy()
        self._kept.clear()

    def _advance(self) -> bool:
        """Undo a chunk more; returns whether there was one."""
        given = os.pread(self._file, CHUNK, self._start + self._taken)
        if self._decompressor.eof:
            padding = len(given) - len(given.lstrip(b"\0"))
            if padding == len(given) or self._form == RAW:  # zeros may fill up a file in gzip
                return False
            self._taken, given = self._taken + padding, given[padding:]
            self._decompressor = zlib.decompressobj(self._form)  # of a further member
        elif not given:
            raise Unreadable(DAMAGED, "its compressed bytes end too early")
        try:
            chunk = self._decompressor.decompress(given)
        except zlib.error as error:
            raise Unreadable(DAMAGED, str(error)) from None
        self._taken += len(given) - len(self._decompressor.unused_data)
        self._kept.append((self._undone, chunk))
        self._undone += len(chunk)
        while len(self._kept) > 1 and self._undone - self._kept[1][0] > KEPT:
            self._kept.popleft()
        if self._undone >= self._states[-1].undone + self._span and not self._decompressor.eof:
            self._remember()
        return True

    def _remember(self) -> None:
        self._states.append(_State(self._undone, self._taken, self._decompressor.copy()))
        if len(self._states) > MOST_STATES:
            self._states = self._states[::2]
            self._span *= 2
