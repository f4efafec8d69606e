"""The windows of a scene, in an order that reads each of its blocks once, and which windows are read at once."""

from collections.abc import Sequence
from itertools import product
from math import ceil

Rectangle = tuple[int, int, int, int]
"""Column and row of the upper left pixel, width and height."""
MOST_WINDOWS = 2**22
"""Most windows of a scene, such as 131,072 x 131,072 px in windows of 64 px."""
AT_ONCE = 2**20
"""Most pixels of a scene's windows that are read at once, overlaps counted for each, unless a single one has more."""


def count(width: int, height: int, side: int, overlap: int) -> int:
    """Number of windows of a scene of so many pixels."""
    step = side - overlap
    return max(0, (width - overlap) // step) * max(0, (height - overlap) // step)


def windows(width: int, height: int, side: int, overlap: int, block: tuple[int, int]) -> list[Rectangle]:
    """All whole windows of a scene, from its upper left corner on.

    Args:
        block: height and width of the blocks in which the file is stored. Windows that begin in the same block follow
            one another.
    """
    step, (tall, wide) = side - overlap, block
    corners = product(range(0, height - side + 1, step), range(0, width - side + 1, step))
    ordered = sorted(corners, key=lambda corner: (corner[0] // tall, corner[1] // wide, *corner))
    return [(column, row, side, side) for row, column in ordered]


def bounds(windows: Sequence[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds all windows."""
    column, row = min(window[0] for window in windows), min(window[1] for window in windows)
    right = max(window[0] + window[2] for window in windows)
    bottom = max(window[1] + window[3] for window in windows)
    return column, row, right - column, bottom - row


def ends(part: Rectangle) -> tuple[tuple[int, int], tuple[int, int]]:
    """First row and the one after the last, first column and the one after the last."""
    column, row, width, height = part
    return (row, row + height), (column, column + width)


def read_together(windows: Sequence[Rectangle]) -> list[int]:
    """How many windows, one after another, are read at once: the lengths of such runs.

    Windows far from one another are not, as what lies between them would be read for nothing.
    """
    lengths: list[int] = []
    around, wanted = (0, 0, 0, 0), 0
    for window in windows:
        wider = bounds([around, window]) if lengths else window
        area = window[2] * window[3]
        fits = max(wider[2] * wider[3], wanted + area) <= AT_ONCE
        if lengths and fits and wider[2] * wider[3] <= 2 * (wanted + area):
            lengths[-1] += 1
            around, wanted = wider, wanted + area
        else:
            lengths.append(1)
            around, wanted = window, area
    return lengths


def last_block(width: int, height: int, block: tuple[int, int]) -> tuple[int, int]:
    """Column and row, among the blocks, of the one at the lower right."""
    tall, wide = block
    return ceil(width / wide) - 1, ceil(height / tall) - 1
