"""Rows of tiles in a file that holds only some of the store's tiles.

b  tiles of a request     n  tiles in the file
"""

import torch
from jaxtyping import Int
from torch import Tensor


class TileRows:
    """The row of each tile in the file.

    Args:
        tiles: the tiles' numbers in the store, in the order of the rows.
        only: message if a tile is asked for that is not in the file.
    """

    def __init__(self, tiles: Int[Tensor, " n"], only: str) -> None:
        self._only, self._count = only, len(tiles)
        self._rows = torch.full((int(tiles.max()) + 1,), -1)
        self._rows[tiles] = torch.arange(len(tiles))

    def __len__(self) -> int:
        return self._count

    def of(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The rows of the given tiles, on the CPU."""
        rows = self._rows[tiles.cpu()]
        assert (rows >= 0).all(), self._only
        return rows
