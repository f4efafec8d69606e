"""The pixels of packed tiles on the disk, in files of bounded size: appended to, and read through memory maps.

    b  tiles asked for     c  bands     h w  pixels of a tile     n  tiles in all shards

``tiles-00000.bin`` and those after it hold the same number of tiles each, but for the last, which may hold fewer. A
tile's slot is its place among all of them.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, Real, Shaped

from gcl_custom.files import damaged
from gcl_custom.machine_faults import writing

SHARD_BYTES = 256 * 2**20
"""Bytes of a shard, at the most."""
MAPPED = 256
"""Shards that are mapped at a time, at the most: each takes an open file, and systems often allow 1,024."""
MADE_BY = "gcl-custom fit-generator"


def shard_name(number: int) -> str:
    return f"tiles-{number:05}.bin"


def has_shards(folder: Path) -> bool:
    return (folder / shard_name(0)).is_file()


def tile_bytes(bands: int, size: int, dtype: str) -> int:
    """Bytes of a tile."""
    return bands * size**2 * np.dtype(dtype).itemsize


def in_a_shard(each: int) -> int:
    """Number of tiles in a full shard."""
    return max(1, SHARD_BYTES // each)


def _shards(folder: Path) -> list[Path]:
    """The shards that lie in a folder, the first one first."""
    return sorted(folder.glob("tiles-*.bin"), key=lambda path: (len(path.name), path.name))


class Shards(ABC):
    """All tiles (n c h w), indexed like an array: ``shards[slots]``, or ``shards[slots, band]`` for one band of them.

    Args:
        counts: number of tiles in each shard.

    Attributes:
        shape: n, c, h, w.
        dtype: of a value.
    """

    def __init__(self, counts: Sequence[int], dtype: str, tile: tuple[int, int, int]) -> None:
        self._begins, self.dtype = np.cumsum([0, *counts]), np.dtype(dtype)
        self.shape = (int(self._begins[-1]), *tile)

    @abstractmethod
    def _shard(self, number: int) -> Real[np.ndarray, "m c h w"]:
        """The tiles of a shard, mapped into memory."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, wanted: Int[np.ndarray, " b"] | tuple[Int[np.ndarray, " b"], int]
    ) -> Real[np.ndarray, "b *_"]:
        if isinstance(wanted, tuple):
            slots, band = wanted
            return self._gathered(slots, lambda number: self._shard(number)[:, band])
        return self._gathered(wanted, self._shard)

    def _places(self, slots: Int[np.ndarray, " b"]) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
        """The number of each slot's shard, and its place there."""
        shards = np.searchsorted(self._begins, slots, "right") - 1
        return shards, slots - self._begins[shards]

    def _gathered(
        self, slots: Int[np.ndarray, " b"], shard: Callable[[int], Shaped[np.ndarray, "m *_"]]
    ) -> Shaped[np.ndarray, "b *_"]:
        """Entries of some slots, out of what ``shard`` gives for each number."""
        if len(self._begins) == 2:
            return np.asarray(shard(0)[slots])
        shards, rows = self._places(slots)
        numbers = np.unique(shards).tolist() or [0]
        first = shard(numbers[0])
        if len(numbers) == 1:
            return np.asarray(first[rows])
        found = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for number in numbers:
            there = np.flatnonzero(shards == number)
            found[there] = shard(number)[rows[there]]
        return found


class MappedShards(Shards):
    """The shards of a folder.

    Raises:
        UserError: a shard is damaged or missing.
    """

    def __init__(self, folder: Path, dtype: str, tile: tuple[int, int, int]) -> None:
        self._tile, self._paths = tile, _shards(folder) or [folder / shard_name(0)]
        each, counts = math.prod(tile) * np.dtype(dtype).itemsize, list[int]()
        for number, path in enumerate(self._paths):
            if path.name != shard_name(number) or not path.is_file():
                raise damaged(folder / shard_name(number), ValueError("it is missing"), MADE_BY)
            count, rest = divmod(path.stat().st_size, each)
            counts.append(count)
            full = count == counts[0] or (count < counts[0] and path == self._paths[-1])
            if rest or not count or not full:
                raise damaged(path, ValueError(f"it holds {count} tiles and {rest} bytes"), MADE_BY)
        super().__init__(counts, dtype, tile)
        self._mapped = lru_cache(MAPPED)(self._map)

    def _shard(self, number: int) -> Real[np.ndarray, "m c h w"]:
        return self._mapped(number)

    def _map(self, number: int) -> Real[np.ndarray, "m c h w"]:
        path = self._paths[number]
        try:
            return np.memmap(path, self.dtype, "r").reshape(-1, *self._tile)
        except (OSError, ValueError) as error:
            raise damaged(path, error, MADE_BY) from None


class ShardWriter:
    """Appends tiles to the shards of a folder.

    Args:
        each: bytes of a tile.
    """

    def __init__(self, folder: Path, each: int) -> None:
        self._folder, self._bytes, self._in_a_shard, self._tiles = folder, each, in_a_shard(each), 0

    def begin(self) -> None:
        """Remove what is there, and leave a first shard without tiles.

        Raises:
            OSError: the folder cannot be written to.
        """
        with writing(self._folder):
            for path in _shards(self._folder):
                path.unlink()
            (self._folder / shard_name(0)).touch()

    def go_on(self, tiles: int) -> None:
        """Keep so many tiles, and cut off what a kill left behind them.

        Raises:
            UserError: there are fewer.
        """
        full, rest = divmod(tiles, self._in_a_shard)
        sizes = [self._in_a_shard] * full + ([rest] if rest or not full else [])
        for number, size in enumerate(sizes):
            path = self._folder / shard_name(number)
            if not path.is_file() or path.stat().st_size < size * self._bytes:
                raise damaged(path, ValueError(f"it should hold {size} tiles"), MADE_BY)
            os.truncate(path, size * self._bytes)
        for path in _shards(self._folder)[len(sizes) :]:
            path.unlink()
        self._tiles = tiles

    def append(self, tiles: Sequence[Real[np.ndarray, "c h w"]]) -> None:
        """Write tiles behind those that are there. They are on the disk when this returns.

        Raises:
            OSError: they cannot be written.
        """
        while tiles:
            number, row = divmod(self._tiles, self._in_a_shard)
            some, tiles = tiles[: self._in_a_shard - row], tiles[self._in_a_shard - row :]
            path = self._folder / shard_name(number)
            with writing(path), path.open("ab") as file:
                for tile in some:
                    file.write(tile.tobytes())
                file.flush()
                os.fsync(file.fileno())
            self._tiles += len(some)
