"""The view store: the generative views of every training tile, in one memory-mapped file.

    b  tiles of a request     k  views of a tile     c h w  a view     n  training tiles

A store is a folder with ``views.npy`` (n, k, c, h, w), in the integer type of the tiles, and ``tiles.npy``, the number
in the tile store that each row belongs to; where a recipe asks for it also ``similarity.npy`` (n, k), how much each
view looks like its tile. It keeps pixels, not tokens: decoding tokens costs 10 ms a tile on a CPU,
too much to pay again in each epoch, while reading pixels costs next to nothing.
"""

import json
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from gcl_custom.console import progress
from gcl_custom.errors import UserError
from gcl_custom.imagery import TileStore, tensor_of
from gcl_custom.runs import write_atomically, write_json

VIEWS = "views.npy"
TILES = "tiles.npy"
SIMILARITY = "similarity.npy"
PROGRESS = "progress.json"


class ViewStore:
    """Finished generative views; cheap to open, and pickled by its path.

    Attributes:
        per_tile: views of each tile, k.

    Raises:
        UserError: the folder holds no views.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not (self.path / VIEWS).is_file():
            raise UserError(f"{self.path} holds no views ({VIEWS} is missing). Run: gcl-custom make-views")
        tiles = np.load(self.path / TILES)
        self._rows = np.full(tiles.max() + 1, -1)
        self._rows[tiles] = np.arange(len(tiles))
        self.per_tile: int = self._views.shape[1]

    def __reduce__(self) -> tuple[type["ViewStore"], tuple[Path]]:
        return ViewStore, (self.path,)

    @cached_property
    def _views(self) -> np.ndarray:
        views: np.ndarray = np.load(self.path / VIEWS, mmap_mode="r")
        return views

    def read(self, tiles: Int[Tensor, " b"], which: Int[Tensor, " b"]) -> Integer[Tensor, "b c h w"]:
        """View number ``which`` of each tile, of the type that TileStore.read gives."""
        return tensor_of(self._views[self._rows_of(tiles), which.cpu().numpy()])

    def similar(self, tiles: Int[Tensor, " b"], least: float) -> Bool[Tensor, "b k"]:
        """Which of each tile's views are at least so similar to it; only where similarity was measured."""
        return self.similarity[torch.from_numpy(self._rows_of(tiles))] >= least

    @cached_property
    def similarity(self) -> Float[Tensor, "n k"]:
        return torch.from_numpy(np.load(self.path / SIMILARITY))

    def _rows_of(self, tiles: Int[Tensor, " b"]) -> Int[np.ndarray, " b"]:
        rows: np.ndarray = self._rows[tiles.cpu().numpy()]
        assert (rows >= 0).all(), "only training tiles have views"
        return rows


class Written(NamedTuple):
    """What a finished store took to write."""

    seconds: float
    figures: dict[str, float]
    """The sums of what ``make`` stated."""


def write_views(
    path: Path,
    store: TileStore,
    per_tile: int,
    block: int,
    make: Callable[[Int[Tensor, " b"], int], tuple[Integer[Tensor, "b c h w"], dict[str, float]]],
    after_block: Callable[[], None],
) -> Written:
    """Write the views of all training tiles, or go on where an earlier process stopped.

    Blocks of tiles are fixed, and a block counts as written only once its pixels are on the disk. So if ``make`` is a
    function of its arguments, a store that was interrupted ends up the same, byte for byte.

    Args:
        path: folder of the store.
        per_tile: views of each tile, k.
        block: tiles of a block.
        make: tile numbers, and which of the k views -> views as the tile store keeps them, and figures to add up.
        after_block: called once a block is safe.

    Raises:
        UserError: there is not enough room on the disk.
    """
    tiles = store.index("train")
    shape = (len(tiles), per_tile, store.bands, store.size, store.size)
    record: dict[str, Any] = {"tiles": 0, "seconds": 0.0, "figures": {}}
    if (path / PROGRESS).is_file():
        record = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        views = np.lib.format.open_memmap(path / VIEWS, mode="r+")
    else:
        _require_room(path, int(np.prod(shape)) * np.dtype(store.dtype).itemsize)
        with write_atomically(path / TILES) as part, part.open("wb") as file:
            np.save(file, tiles.numpy())
        views = np.lib.format.open_memmap(path / VIEWS, mode="w+", dtype=store.dtype, shape=shape)
    done, seconds, figures = record["tiles"], record["seconds"], record["figures"]
    with progress(len(tiles) * per_tile, path.name, "views") as ticker:
        ticker.skip(done * per_tile)
        for start in range(done, len(tiles), block):
            began, some = time.monotonic(), tiles[start : start + block]
            for which in range(per_tile):
                made, stated = make(some, which)
                views[start : start + len(some), which] = made.cpu().numpy()
                figures = {name: figures.get(name, 0.0) + value for name, value in stated.items()}
                ticker.advance(len(some))
            views.flush()
            seconds += time.monotonic() - began
            write_json(path / PROGRESS, {"tiles": start + len(some), "seconds": seconds, "figures": figures})
            after_block()
    return Written(seconds, figures)


def write_similarity(
    path: Path,
    store: TileStore,
    block: int,
    compare: Callable[[Int[Tensor, " b"], Integer[Tensor, "b k c h w"]], Float[Tensor, "b k"]],
    after_block: Callable[[], None],
) -> None:
    """Write how similar each view of a finished store is to its tile, or go on where an earlier process stopped.

    Args:
        path: folder of the store.
        block: tiles of a block; blocks are fixed, and one with a gap is compared again, whole.
        compare: tile numbers and their views -> similarities.
        after_block: called once a block is safe.
    """
    views, tiles = np.load(path / VIEWS, mmap_mode="r"), store.index("train")
    if not (path / SIMILARITY).is_file():
        with write_atomically(path / SIMILARITY) as part, part.open("wb") as file:
            np.save(file, np.full(views.shape[:2], np.nan, dtype=np.float32))
    similarity = np.lib.format.open_memmap(path / SIMILARITY, mode="r+")
    with progress(len(tiles), "similarity") as ticker:
        for start in range(0, len(tiles), block):
            rows = slice(start, start + block)
            some = tiles[rows]
            if np.isnan(similarity[rows]).any():
                similarity[rows] = compare(some, tensor_of(np.array(views[rows]))).cpu().numpy()
                similarity.flush()
                ticker.advance(len(some))
                after_block()
            else:
                ticker.skip(len(some))


def _require_room(path: Path, wanted: int) -> None:
    free = shutil.disk_usage(path).free
    if wanted > free:
        raise UserError(
            f"{path} needs {wanted / 1e9:.1f} GB for its views, but the disk has {free / 1e9:.1f} GB free. "
            f"Make room, or lower views.per_tile or data.size"
        )
