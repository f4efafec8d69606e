"""Where tiles stand in a file that keeps some of them alone.

b  tiles of a request     n  tiles that are kept
"""

import torch
from jaxtyping import Int
from torch import Tensor


class TileRows:
    """The row of each tile that is kept.

    Args:
        tiles: their numbers in the tile store, in the order of the rows.
        only: which tiles these are, for whoever asks for another one.
    """

    def __init__(self, tiles: Int[Tensor, " n"], only: str) -> None:
        self._only = only
        self._rows = torch.full((int(tiles.max()) + 1,), -1)
        self._rows[tiles] = torch.arange(len(tiles))

    def of(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The rows of some tiles, on the CPU."""
        rows = self._rows[tiles.cpu()]
        assert (rows >= 0).all(), self._only
        return rows
