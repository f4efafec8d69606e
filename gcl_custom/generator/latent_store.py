"""The stored features of inverted tiles: found once, and read by everything that starts from a tile.

    b  tiles of a request     n  training tiles

``latents.npy`` has a row for each training tile, and a row has a field for each tensor of a tile's features.
"""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gcl_custom.arrays import new_array, read_array, require_shape, save_array
from gcl_custom.files import write_atomically
from gcl_custom.imagery.tile_store import TileRows, TileStore

FILE = "latents.npy"


class Latents:
    """Features by the number of the tile, from the folder of their stage."""

    def __init__(self, folder: Path, store: TileStore) -> None:
        self._path = folder / FILE
        self._rows = TileRows(store.index("train"), "only training tiles are inverted")

    @cached_property
    def _latents(self) -> np.ndarray:
        latents = read_array(self._path, "gcl-custom fit-generator")
        require_shape(self._path, latents, (len(self._rows),), "gcl-custom fit-generator")
        return latents

    def read(self, tiles: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Each tensor of the features of tiles (b *shape), by its name."""
        found = self._latents[self._rows.of(tiles).numpy()]
        return {name: torch.from_numpy(found[name].copy()) for name in found.dtype.names}


def rows_of(features: Any) -> Shaped[np.ndarray, " b"]:
    """Features of tiles, a named tuple of tensors (b *shape), as an array with a field for each tensor."""
    parts = {name: value.cpu().numpy() for name, value in features._asdict().items()}
    count = len(next(iter(parts.values())))
    rows = np.empty(count, [(name, part.dtype, part.shape[1:]) for name, part in parts.items()])
    for name, part in parts.items():
        rows[name] = part
    return rows


class LatentWriter:
    """Writes the features of tiles block by block. Several processes may make them; one writes.

    A block is a file of its own until all blocks are there. So a block is whole or absent, and the width of features is
    not needed beforehand. With another size of blocks, all are written anew.

    Args:
        folder: of the stage.
        tiles: their numbers.
        block: tiles of a block.
    """

    def __init__(self, folder: Path, tiles: Int[Tensor, " n"], block: int) -> None:
        self._folder, self._blocks = folder, folder / f"blocks-{block}"
        self.count, self._tiles = len(tiles), tiles.split(block)
        self._blocks.mkdir(exist_ok=True)

    @property
    def pending(self) -> list[int]:
        """Numbers of the blocks that are still to be written; none once they are joined."""
        if (self._folder / FILE).is_file():
            return []
        return [number for number in range(len(self._tiles)) if not self._file(number).is_file()]

    @property
    def written(self) -> int:
        """Number of tiles whose features are written."""
        return self.count - sum(len(self._tiles[number]) for number in self.pending)

    def tiles(self, number: int) -> Int[Tensor, " b"]:
        """Numbers of the tiles of a block."""
        return self._tiles[number]

    def write(self, number: int, rows: Shaped[np.ndarray, " b"]) -> None:
        """Write the features of the tiles of a block, as ``rows_of`` gives them."""
        save_array(self._file(number), rows)

    def finish(self) -> None:
        """Join all blocks into one file."""
        if not (self._folder / FILE).is_file():
            kind = self._read(0).dtype
            with write_atomically(self._folder / FILE) as part:
                whole = new_array(part, kind, (self.count,))
                start = 0
                for number, tiles in enumerate(self._tiles):
                    whole[start : start + len(tiles)] = self._read(number)
                    start += len(tiles)
                whole.flush()
        for blocks in self._folder.glob("blocks-*"):
            shutil.rmtree(blocks)

    def _read(self, number: int) -> np.ndarray:
        return read_array(self._file(number), "", mode=None)

    def _file(self, number: int) -> Path:
        return self._blocks / f"{number:06d}.npy"
