"""The pixels of packed tiles in object storage: shards are fetched when they are needed, and mapped from a cache.

    b  tiles asked for     c  bands     h w  pixels of a tile     n  tiles in all shards

A shard holds one record after another: a tile's pixels (c h w) and, where tiles have masks, its mask (h w). Its tiles
are of one split, in a random order that was drawn when they were pushed, so any few shards are a fair sample.
"""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gcl_custom.files import read_json, write_json
from gcl_custom.imagery.shards.object_storage import ObjectStorage
from gcl_custom.imagery.shards.shard_cache import ShardCache
from gcl_custom.imagery.shards.shard_files import Shards, has_shards
from gcl_custom.recipe.store import StoreSettings

STREAMED = "streamed.json"
"""In the folder of a store: where its shards come from."""
SHARDS = "shards"
"""Their folder below the address."""
FETCHERS = 2
"""Shards that a process fetches at a time: one that is waited for, and one that will be."""


class Shard(NamedTuple):
    """An entry of a pushed store's index."""

    digest: str
    tiles: int

    @property
    def name(self) -> str:
        """Its file below the address."""
        return f"{SHARDS}/{self.digest}.bin"


def record_type(dtype: str, tile: tuple[int, int, int], masks: bool) -> np.dtype:
    """What a shard holds of each tile."""
    return np.dtype([("pixels", dtype, tile), *([("mask", "u1", tile[1:])] if masks else [])])


def keep_settings(folder: Path, settings: StoreSettings) -> None:
    """Note in a store's folder where its shards come from, and where they are kept."""
    wanted = settings.model_dump()
    if not (folder / STREAMED).is_file() or read_json(folder / STREAMED) != wanted:
        write_json(folder / STREAMED, wanted)


def has_pixels(folder: Path) -> bool:
    """Whether the pixels of a store are there, or can be fetched."""
    return has_shards(folder) or (folder / STREAMED).is_file()


class StreamedShards(Shards):
    """All tiles (n c h w), indexed like an array. ``streamed.json`` in the folder says where they lie.

    Raises:
        UserError: nothing here opens the address; when tiles are asked for, the connection is lost.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], dtype: str, tile: tuple[int, int, int], masks: bool):
        super().__init__([shard.tiles for shard in shards], dtype, tile)
        settings = StoreSettings(**read_json(folder / STREAMED))
        self._shards, self._record = shards, record_type(dtype, tile, masks)
        self._storage = ObjectStorage(settings.address, settings.retries)
        self._cache = ShardCache(Path(settings.cache), round(settings.cache_gb * 1e9))
        self._mixed = settings.mixed_shards
        self._pool, self._lock = ThreadPoolExecutor(FETCHERS), Lock()
        self._asked: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._ahead: int | None = None

    def masks(self, slots: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w"]:
        """The masks of tiles."""
        return self._gathered(slots, lambda number: self._mapped(number)["mask"])

    def fetch(self, slots: Int[np.ndarray, " b"]) -> None:
        """Begin to fetch a shard of these tiles, which will be asked for soon. This returns at once.

        There is at most one shard that was fetched and not asked for yet, so that none goes that is in use.
        """
        for number in dict.fromkeys(self._places(slots)[0].tolist()):
            if self._ahead is None and number not in self._asked:
                self._ahead = number
                self._ask(number)

    def order(self, slots: Int[np.ndarray, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
        """The order in which an epoch takes tiles: their places in ``slots``. So few shards are in use at a time.

        Shards are put into a random order, and each tile behind the begin of its shard by a random share of
        ``mixed_shards`` shards. This is how MosaicML's Streaming mixes, by its algorithm py1e, but that shards are
        not cut. If there are no more shards than are mixed, the order is wholly random.
        """
        shards = torch.from_numpy(self._places(slots)[0])
        used, of = shards.unique(return_inverse=True)
        if len(used) <= self._mixed:
            return torch.randperm(len(slots), generator=rng)
        place = torch.randperm(len(used), generator=rng)[of]
        behind = self._mixed * torch.rand(len(slots), generator=rng, dtype=torch.float64)
        return (place + behind).argsort(stable=True)

    def _shard(self, number: int) -> np.ndarray:
        return np.asarray(self._mapped(number)["pixels"])

    def _mapped(self, number: int) -> np.ndarray:
        """A shard's records."""
        asked = self._ask(number)
        if number == self._ahead:
            self._ahead = None
        try:
            return asked.result()
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)  # else others are tried, one after the other
            raise

    def _ask(self, number: int) -> Future[np.ndarray]:
        """Ask for a shard. Those that were not asked for longest are let go."""
        with self._lock:
            if number not in self._asked:
                self._asked[number] = self._pool.submit(self._map, number)
            self._asked.move_to_end(number)
            if len(self._asked) > self._mixed + 2:
                self._asked.popitem(last=False)
            return self._asked[number]

    def _map(self, number: int) -> np.ndarray:
        shard = self._shards[number]
        fetch = partial(self._storage.fetch, shard.name, shard.digest)
        while True:
            path = self._cache.path(shard.digest, shard.tiles * self._record.itemsize, fetch)
            try:
                return np.memmap(path, self._record, "r", shape=(shard.tiles,))
            except FileNotFoundError:  # another process has just made room
                continue
