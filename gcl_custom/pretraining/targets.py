"""Targets: what a frozen network sees in each training tile, and how well views of the tile predict it.

b  tiles in a batch     d  width of the backbone     t  width of the frozen network     n  training tiles
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from gcl_custom.arrays import read_array, require_shape
from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileRows

FEATURES, TILES = "features.npy", "tiles.npy"
MADE_BY = "gcl-custom pretrain"
"""The command that makes targets."""
BLOCK = 2**12
"""Rows that are read at a time."""
LEAST_DEVIATION = 1e-3
"""A feature that hardly varies over the tiles is divided by this, so that it is not blown up."""


def column_moments(
    rows: Float[np.ndarray, "n t"], block: int = BLOCK
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, " t"]]:
    """Mean and standard deviation of each column, those of NumPy in float64 to the last bit.

    NumPy's own would hold all rows in memory, as doubles.
    """

    def mean(of: Callable[[np.ndarray], np.ndarray]) -> Float64[np.ndarray, " t"]:
        total = np.zeros((1, rows.shape[1]))
        for start in range(0, len(rows), block):
            part = of(rows[start : start + block].astype(np.float64))
            total = np.concatenate([total, part]).sum(0, keepdims=True)  # row after row, as in one sum
        return total[0] / len(rows)

    centre = mean(lambda part: part)
    return centre, np.sqrt(mean(lambda part: np.square(part - centre)))


class TargetStore:
    """The features (n t) of all training tiles, brought to mean 0 and deviation 1 each. Pickled by its path.

    Raises:
        UserError: the folder holds no targets, or damaged ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not (self.path / FEATURES).is_file():
            raise UserError(f"{self.path} holds no targets ({FEATURES} is missing). Run: {MADE_BY}")
        rows = read_array(self.path / TILES, MADE_BY, mode=None)
        require_shape(self.path / FEATURES, self._features, rows.shape, MADE_BY)
        self._rows = TileRows(torch.from_numpy(rows), "only training tiles have targets")

    def __reduce__(self) -> tuple[type["TargetStore"], tuple[Path]]:
        return TargetStore, (self.path,)

    @cached_property
    def _features(self) -> np.ndarray:
        return read_array(self.path / FEATURES, MADE_BY)

    @property
    def width(self) -> int:
        return int(self._features.shape[1])

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = column_moments(self._features)
        return mean, np.maximum(deviation, LEAST_DEVIATION)

    def read(self, tiles: Int[Tensor, " b"]) -> Float[Tensor, "b t"]:
        """The standardised features of some tiles."""
        mean, deviation = self._moments
        features = (self._features[self._rows.of(tiles).numpy()] - mean) / deviation
        return torch.from_numpy(features.astype(np.float32))


class Prediction(nn.Module):
    """Predicts a tile's targets from the representation of any of its views, by a linear map.

    The loss is 1 - cos(predicted, target), averaged over tiles and views. Targets are standardised: features after an
    activation are all positive, so the cosine of any two would be near 1.
    """

    def __init__(self, width: int, targets: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.linear = nn.Linear(width, targets)

    def forward(self, seen: Sequence[Float[Tensor, "b d"]], targets: Float[Tensor, "b t"]) -> Float[Tensor, ""]:
        """The loss of the representations of several views, times its weight."""
        with torch.autocast(targets.device.type, enabled=False):
            similar = [F.cosine_similarity(self.linear(r.float()), targets, dim=1).mean() for r in seen]
        return self.weight * (1 - torch.stack(similar).mean())
