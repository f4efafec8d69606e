"""The stored tokens of the tiles: computed once, and read wherever they are needed.

b  tiles in a batch     s  ways in which a tile may be flipped and turned, the first upright     h w  grid of tokens
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom.arrays import read_array, require_shape
from gcl_custom.imagery.tile_store import TileRows, TileStore

FILE = "tokens.npy"


def tokenised(store: TileStore) -> Int[Tensor, " n"]:
    """Numbers of the tiles whose tokens are stored, ascending."""
    return torch.cat([store.index("train"), store.index("valid")]).sort().values


class Tokens:
    """Tokens by the number of the tile, from the folder of their stage."""

    def __init__(self, folder: Path, store: TileStore) -> None:
        self._path = folder / FILE
        self._rows = TileRows(tokenised(store), "only training and validation tiles have tokens")

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_rows": self._rows}  # a memory map would be pickled with its content

    @cached_property
    def _tokens(self) -> np.ndarray:
        tokens = read_array(self._path, "gcl-custom fit-generator")
        require_shape(self._path, tokens, (len(self._rows),), "gcl-custom fit-generator")
        return tokens

    def read(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, "b s h w"]:
        """The tokens of tiles in all their ways."""
        return torch.from_numpy(self._tokens[self._rows.of(tiles).numpy()].astype(np.int64))

    def counts(self, tiles: Int[Tensor, " b"], codes: int) -> Int[Tensor, " v"]:
        """How often each code occurs in some tiles, in all their ways."""
        parts = [torch.bincount(self.read(some).flatten(), minlength=codes) for some in torch.split(tiles, 1024)]
        return torch.stack(parts).sum(dim=0)
