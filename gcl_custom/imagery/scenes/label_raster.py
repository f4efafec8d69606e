"""A raster of labels: how large a share of each window of a scene the pixels of each class number cover.

It may have another resolution or projection than the scene: each pixel of the scene takes the nearest number.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import rasterio
from jaxtyping import Float
from rasterio.errors import RasterioError

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.imagery.scenes.grid import Rectangle, bounds, ends, read_together
from gcl_custom.imagery.scenes.ground import Ground, nearest, shown_part
from gcl_custom.imagery.scenes.scene import Scene, read

Shares = Mapping[str, float]
"""Share of a window, by class."""
MOST_CLASSES = 2**16
"""Beyond the largest number of a class."""


class RasterLabels:
    """An open raster that labels windows.

    Args:
        names: of the numbers 0, 1 and so on. Without them, a number is its own name.
        ignore: numbers that are no class.

    Raises:
        UserError: it has several bands, or values that are no whole numbers.
    """

    def __init__(self, dataset: rasterio.DatasetReader, name: str, names: Sequence[str], ignore: Sequence[int]) -> None:
        self._dataset, self._name, self._names = dataset, name, names
        self._none = [*ignore, *([] if dataset.nodata is None else [dataset.nodata])]
        if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "iu":
            raise UserError(
                f"data.labels: {name} has {counted(dataset.count, 'band')} of {dataset.dtypes[0]}. A raster of "
                f"labels has one "
                f"band, of whole numbers"
            )

    def shares(self, scene: Scene, windows: Sequence[Rectangle]) -> list[Shares] | None:
        """The share of each window that each class covers; None if it is not known where the raster lies there.

        Raises:
            UserError: the raster is damaged, or holds numbers without a name.
        """
        own, onto = Ground.of(self._dataset), scene.ground
        if not (own.crs and onto.crs) and (own.width, own.height) != (onto.width, onto.height):
            return None
        found: list[Shares] = []
        left = list(windows)
        for length in read_together(windows):
            some, left = left[:length], left[length:]
            around = bounds(some)
            numbers = self._numbers(scene, around)
            for column, row, width, height in some:
                inner = (column - around[0], row - around[1], width, height)
                rows, columns = ends(inner)
                found.append(self._counted(numbers[slice(*rows), slice(*columns)]))
        return found

    @property
    def notes(self) -> list[str]:
        return []

    @property
    def where(self) -> str:
        left, low, right, high = self._dataset.bounds
        system = self._dataset.crs.to_string() if self._dataset.crs else "no system of coordinates"
        return f"a raster at {left:g}, {low:g} to {right:g}, {high:g} in {system}"

    def _counted(self, numbers: Float[np.ndarray, "h w"]) -> Shares:
        counts = np.bincount(numbers[numbers >= 0].astype(np.int64))
        return {
            self._names[number] if self._names else str(number): int(counts[number]) / numbers.size
            for number in np.flatnonzero(counts).tolist()
        }

    def _numbers(self, scene: Scene, part: Rectangle) -> Float[np.ndarray, "h w"]:
        """The number of each pixel of a part of the scene's grid, -1 for none."""
        own, place = Ground.of(self._dataset), scene.ground.part(part)
        same = own == scene.ground or not (own.crs and scene.ground.crs)
        inside = part if same else shown_part(own, place)
        if inside is None:
            return np.full((place.height, place.width), -1, dtype=np.float32)
        try:
            values = read(self._dataset, 1, inside)
        except RasterioError as error:
            raise UserError(f"data.labels: {self._name} is damaged ({error.__cause__ or error})") from None
        none = (values < 0) | np.isin(values, self._none)
        most = len(self._names) or MOST_CLASSES
        if (beyond := values[~none & (values >= most)]).size:
            raise UserError(
                f"data.labels: {self._name} holds {beyond.max()}; classes have the numbers 0 to {most - 1:,}. Name it "
                f"in data.mask_classes, or, if it is no class, list it in data.label_ignore"
            )
        # From 1 on, as 0 is what lies beyond the raster; float32 holds such numbers exactly.
        numbers = np.where(none, 0, values.astype(np.float32) + 1)
        return (numbers if same else nearest(numbers, own.part(inside), place)).astype(np.float32) - 1
