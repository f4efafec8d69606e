"""Blending what overlapping windows say into the cells of a map, with a weight that falls to 0 at a window's edge.

    v  values of a window     r k  rows and columns of cells that a window meets     y x  cells of the map

A cell is as large as the step from a window to the next one. Its value is the mean over the windows that hold its
centre, weighted by the raised cosine of the distance between the centres, cos²(π Δx / side) cos²(π Δy / side). Windows
so fade into their neighbours, and no edge of a window shows.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Met(NamedTuple):
    """The cells that a window meets along an axis."""

    first: int
    weights: Float[np.ndarray, " k"]
    """Of each cell; 0 where its centre lies outside the window."""
    starts: Int[np.ndarray, " k"]
    """First pixel of each cell in the window, counted from the window's first one."""


class Axis:
    """Windows and cells along one side of a scene.

    Attributes:
        side, step: of the windows, in pixels. A cell has ``step`` pixels.
        windows: first pixel of each window. The last window ends with the scene, so that all of it is seen.
        cells: number of cells. The last one may reach beyond the scene.
    """

    def __init__(self, length: int, side: int, step: int) -> None:
        assert 0 < step <= side <= length, "windows lie in the scene, and leave nothing between them"
        self.length, self.side, self.step = length, side, step
        self.windows = [*range(0, length - side, step), length - side]
        self.cells = -(-length // step)

    @cached_property
    def pixels(self) -> Int[np.ndarray, " cells"]:
        """Number of the scene's pixels in each cell."""
        starts = np.arange(self.cells) * self.step
        found: np.ndarray = np.minimum(starts + self.step, self.length) - starts
        return found

    def met(self, window: int) -> Met:
        """The cells of the window that begins at this pixel."""
        first, beyond = window // self.step, -(-(window + self.side) // self.step)
        starts = np.arange(first, beyond) * self.step
        centres = (starts + np.minimum(starts + self.step, self.length)) / 2
        away = np.abs(centres - (window + self.side / 2)) / self.side
        return Met(first, np.where(away < 0.5, np.cos(np.pi * away) ** 2, 0.0), np.maximum(starts - window, 0))


class Rows(NamedTuple):
    """Finished rows of a map."""

    first: int
    values: Float[np.ndarray, "v y x"]
    """NaN where a cell has none: no usable window holds it, or half of its pixels or more hold no data."""


class Canvas:
    """Takes windows in any order and gives the rows of the map, from the first to the last, as they are finished.

    Only the rows between are held. Values do not depend on the order of windows, but for the rounding of their sums.
    """

    def __init__(self, down: Axis, across: Axis, values: int) -> None:
        self._down, self._across = down, across
        self._first = 0
        """The row of the map that comes next."""
        self._sums = np.zeros((values, 0, across.cells))
        self._weights = np.zeros((0, across.cells))
        self._data = np.zeros((0, across.cells), np.int64)
        """Pixels of each cell that hold data: the most that a window has seen, since one window holds all of them."""

    def add(
        self, row: int, column: int, valid: Bool[np.ndarray, "s s"] | None, values: Float[np.ndarray, " v"] | None
    ) -> None:
        """Add the window that begins at this pixel.

        Args:
            valid: which of its pixels hold data; None if all do.
            values: what it says; None if it is unusable.
        """
        down, across = self._down.met(row), self._across.met(column)
        self._reach(down.first + len(down.weights))
        rows = slice(down.first - self._first, down.first - self._first + len(down.weights))
        columns = slice(across.first, across.first + len(across.weights))
        there = np.ones((self._down.side, self._across.side), bool) if valid is None else valid
        counts = np.add.reduceat(np.add.reduceat(there, down.starts, axis=0, dtype=np.int64), across.starts, axis=1)
        np.maximum(self._data[rows, columns], counts, out=self._data[rows, columns])
        if values is not None:
            weights = np.outer(down.weights, across.weights)
            self._sums[:, rows, columns] += values[:, None, None] * weights
            self._weights[rows, columns] += weights

    def finished(self, before: int | None = None) -> Iterator[Rows]:
        """The rows that windows from the pixel ``before`` on do not meet; without it, all that remain."""
        last = self._down.cells if before is None else before // self._down.step
        if (count := last - self._first) <= 0:
            return
        self._reach(last)
        pixels = np.outer(self._down.pixels[self._first : last], self._across.pixels)
        weights = self._weights[:count]
        there = (weights > 0) & (2 * self._data[:count] > pixels)
        values = np.full((len(self._sums), count, self._across.cells), np.nan)
        np.divide(self._sums[:, :count], weights, out=values, where=there)
        found = Rows(self._first, values)
        self._sums, self._weights, self._data = self._sums[:, count:], self._weights[count:], self._data[count:]
        self._first = last
        yield found

    def _reach(self, row: int) -> None:
        """Hold all rows before this one."""
        if (more := row - self._first - self._sums.shape[1]) > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, more), (0, 0)))
            self._weights = np.pad(self._weights, ((0, more), (0, 0)))
            self._data = np.pad(self._data, ((0, more), (0, 0)))
