"""The view store: the generative views of every training tile, in one memory-mapped file.

    b  tiles of a request     k  views of a tile     c h w  a view     n  training tiles

A store is a folder. ``views.npy`` (n, k, c, h, w) holds the views, in the type of the tiles, ``tiles.npy`` the
number of each row's tile in the tile store, and ``similarity.npy`` (n, k), if the recipe asks for it, how similar each
view is to its tile. It keeps pixels, not tokens: decoding tokens in each epoch would cost 10 ms a tile on a CPU, while
reading pixels costs next to nothing.
"""

import math
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from gcl_custom.arrays import BlockedArray, read_array, require_shape, save_array, written_array
from gcl_custom.console import in_bytes, progress
from gcl_custom.errors import UserError
from gcl_custom.files import damaged
from gcl_custom.imagery.tile_store import TileRows, TileStore, tensor_of
from gcl_custom.training.devices import Pieces

VIEWS = "views.npy"
TILES = "tiles.npy"
SIMILARITY = "similarity.npy"
BLOCKS = "blocks.npy"
FIGURES = "figures.npy"
"""A row for each block: its seconds, and its sum of what changed."""
MADE_BY = "gcl-custom make-views"


class ViewStore:
    """Finished generative views; cheap to open, and pickled by its path.

    Attributes:
        per_tile: views of each tile, k.

    Raises:
        UserError: the folder holds no views, or damaged ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not (self.path / VIEWS).is_file():
            raise UserError(f"{self.path} holds no views ({VIEWS} is missing). Run: gcl-custom make-views")
        rows = read_array(self.path / TILES, MADE_BY, mode=None)
        if rows.ndim != 1 or rows.dtype.kind != "i" or not (np.diff(rows, prepend=-1) > 0).all():
            raise damaged(self.path / TILES, ValueError("it holds no ascending numbers of tiles"), MADE_BY)
        self._rows = TileRows(torch.from_numpy(rows), "only training tiles have views")
        require_shape(self.path / VIEWS, self._views, rows.shape, MADE_BY)
        self.per_tile: int = self._views.shape[1]

    def __reduce__(self) -> tuple[type["ViewStore"], tuple[Path]]:
        return ViewStore, (self.path,)

    @cached_property
    def _views(self) -> np.ndarray:
        return read_array(self.path / VIEWS, MADE_BY)

    def read(self, tiles: Int[Tensor, " b"], which: Int[Tensor, " b"]) -> Real[Tensor, "b c h w"]:
        """View number ``which`` of each tile, of the type that TileStore.read gives."""
        return tensor_of(self._views[self._rows.of(tiles).numpy(), which.cpu().numpy()])

    def similar(self, tiles: Int[Tensor, " b"], least: float) -> Bool[Tensor, "b k"]:
        """Which views are at least so similar to their tile. Similarity must have been measured."""
        return self.similarity[self._rows.of(tiles)] >= least

    @cached_property
    def similarity(self) -> Float[Tensor, "n k"]:
        return torch.from_numpy(read_array(self.path / SIMILARITY, MADE_BY, mode=None))


class Written(NamedTuple):
    """What writing a store took, and changed."""

    seconds: float
    """The sum over all blocks, whichever process made them."""
    changed: float
    """The sum over all views of the share of tokens that were changed; 0 without tokens."""


Make = Callable[[Int[Tensor, " b"], int], tuple[Real[Tensor, "b c h w"], float]]
"""Numbers of tiles, and which of the k views -> views as the tile store keeps them, and their sum of ``changed``."""


class Block(NamedTuple):
    """The views of a block of tiles."""

    views: Real[np.ndarray, "b k c h w"]
    seconds: float
    changed: float
    """The sum over its views."""


class ViewWriter:
    """Writes the views of all training tiles block by block. Several processes may make them; one writes.

    The blocks are fixed, and a block counts as written once its pixels are on the disk. So an interrupted store ends
    with the same bytes, however many processes made it, if ``make`` is a function of its arguments.

    Args:
        path: folder of the store. Its files are created unless they exist.
        per_tile: views of each tile, k.
        block: tiles of a block.

    Raises:
        UserError: there is not enough room on the disk.
    """

    def __init__(self, path: Path, store: TileStore, per_tile: int, block: int) -> None:
        self._path, self.tiles, self._per_tile = path, store.index("train"), per_tile
        self._pieces = Pieces(block, path.name)
        shape = (len(self.tiles), per_tile, store.bands, store.size, store.size)
        if not (path / BLOCKS).is_file():
            _require_room(path, int(np.prod(shape)) * np.dtype(store.dtype).itemsize)
            save_array(path / TILES, self.tiles.numpy())
            save_array(path / FIGURES, np.zeros((math.ceil(len(self.tiles) / block), 2)))
            BlockedArray.begin(path / VIEWS, path / BLOCKS, store.dtype, shape, block)
        self._views = BlockedArray(path / VIEWS, path / BLOCKS, block, MADE_BY)
        self._figures = written_array(path / FIGURES, MADE_BY)

    @property
    def pending(self) -> list[int]:
        """Numbers of the blocks that are not written yet."""
        return self._views.pending

    @property
    def views(self) -> int:
        """The number of views written so far."""
        return self._views.written * self._per_tile

    @property
    def written(self) -> Written:
        """The figures of a finished store."""
        return Written(*self._figures.sum(axis=0).tolist())

    def made(self, number: int, make: Make) -> Block:
        """Make all views of a block's tiles."""
        began, some = time.monotonic(), self.tiles[self._views.within(number)]
        parts = [self._in_pieces(make, some, which) for which in range(self._per_tile)]
        views = torch.stack([made.cpu() for made, _ in parts], dim=1).numpy()
        return Block(views, time.monotonic() - began, sum(changed for _, changed in parts))

    def keep(self, number: int, block: Block) -> None:
        """Write a block that was made, its figures first: with its views it counts as written."""
        self._figures[number] = block.seconds, block.changed
        self._figures.flush()
        self._views.keep(number, block.views)

    def _in_pieces(self, make: Make, tiles: Int[Tensor, " b"], which: int) -> tuple[Real[Tensor, "b c h w"], float]:
        parts = self._pieces(lambda some: make(some, which), tiles)
        return torch.cat([made for made, _ in parts]), sum(changed for _, changed in parts)


def write_similarity(
    path: Path,
    store: TileStore,
    block: int,
    compare: Callable[[Int[Tensor, " b"], Real[Tensor, "b k c h w"]], Float[Tensor, "b k"]],
    after_block: Callable[[], None],
) -> None:
    """Write the similarity of each view of a finished store to its tile, or go on where an earlier process stopped.

    Args:
        path: folder of the store.
        block: tiles of a block. An incomplete block is compared again as a whole.
        compare: tile numbers and their views -> similarities.
        after_block: called once a block is safe.
    """
    views, tiles = read_array(path / VIEWS, MADE_BY), store.index("train")
    if not (path / SIMILARITY).is_file():
        save_array(path / SIMILARITY, np.full(views.shape[:2], np.nan, dtype=np.float32))
    similarity = written_array(path / SIMILARITY, MADE_BY)
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
            f"{path} needs {in_bytes(wanted)} for its views, and {in_bytes(free)} are free. Make room, choose another "
            f"place with --runs, or lower views.per_tile or data.size"
        )
