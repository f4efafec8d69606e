"""Blending: cells against the plain formula, edges, nodata."""

import numpy as np
import pytest

from gcl_custom.maps.blending import Axis, Canvas


def painted(values: dict[tuple[int, int], float], down: Axis, across: Axis, **valid: np.ndarray) -> np.ndarray:
    """The map of one value a window, taken row by row of windows."""
    canvas, found = Canvas(down, across, 1), []
    for number, row in enumerate(down.windows):
        for column in across.windows:
            value = values.get((row, column))
            mask = valid["valid"][row : row + down.side, column : column + across.side] if valid else None
            canvas.add(row, column, mask, None if value is None else np.array([value]))
        following = down.windows[number + 1] if number + 1 < len(down.windows) else None
        found += list(canvas.finished(following))
    assert [rows.first for rows in found] == sorted(rows.first for rows in found)
    return np.concatenate([rows.values[0] for rows in found])


@pytest.mark.parametrize(("length", "side", "step"), [(64, 16, 8), (70, 16, 4), (67, 16, 16), (40, 16, 5), (16, 16, 8)])
def test_windows_see_all_of_a_scene_and_each_cell_lies_within_one(length: int, side: int, step: int) -> None:
    axis = Axis(length, side, step)
    assert axis.windows == sorted(set(axis.windows))
    assert axis.windows[0] == 0
    assert axis.windows[-1] + side == length
    assert axis.pixels.sum() == length
    for cell in range(axis.cells):
        start, end = cell * step, min(cell * step + step, length)
        assert any(window <= start and end <= window + side for window in axis.windows)


def test_a_cell_is_the_mean_of_the_windows_that_hold_its_centre_weighted_by_the_raised_cosine() -> None:
    down, across = Axis(50, 16, 4), Axis(39, 16, 4)
    rng = np.random.default_rng(0)
    values = {(row, column): rng.normal() for row in down.windows for column in across.windows}
    found = painted(values, down, across)
    assert found.shape == (13, 10)
    for y in range(13):
        for x in range(10):
            top, left = (4 * y + min(4 * y + 4, 50)) / 2, (4 * x + min(4 * x + 4, 39)) / 2
            sums = weights = 0.0
            for (row, column), value in values.items():
                aside = (abs(top - row - 8) / 16, abs(left - column - 8) / 16)
                weight = np.prod([np.cos(np.pi * part) ** 2 if part < 0.5 else 0 for part in aside])
                sums, weights = sums + weight * value, weights + weight
            assert found[y, x] == pytest.approx(sums / weights)


def test_windows_that_agree_leave_no_edge_and_a_step_between_them_becomes_a_ramp() -> None:
    axis = Axis(128, 32, 8)
    flat = painted({(row, column): 3.0 for row in axis.windows for column in axis.windows}, axis, axis)
    np.testing.assert_allclose(flat, 3.0)
    steep = painted({(r, c): float(c >= 48) for r in axis.windows for c in axis.windows}, axis, axis)
    assert np.abs(np.diff(steep, axis=1)).max() < 0.43, "without blending it is 1"
    assert (np.diff(steep, axis=1) > -1e-12).all()


def test_cells_without_data_or_without_a_usable_window_are_none() -> None:
    axis = Axis(64, 16, 8)
    valid = np.ones((64, 64), bool)
    valid[:16, :8] = False  # two cells
    valid[16:20, :8] = False  # half of a third
    valid[24:27, :8] = False  # less than half of a fourth
    values = {(row, column): 1.0 for row in axis.windows for column in axis.windows if row < 40}
    found = painted(values, axis, axis, valid=valid)
    assert np.isnan(found[:3, 0]).all()
    assert not np.isnan(found[3:6]).any()
    assert not np.isnan(found[:3, 1:]).any()
    assert np.isnan(found[6:]).all(), "the last usable windows end at 48"
