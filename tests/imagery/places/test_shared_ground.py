"""Against the pixels that each window covers, counted one by one."""

import numpy as np
import pytest
from made_scenes import NORTH_UP, grid_from
from rasterio import Affine
from rasterio.crs import CRS

from gcl_custom.imagery.places import shared_ground
from gcl_custom.imagery.places.shared_ground import Footprints
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.places import corners

UTM = CRS.from_epsg(32633)


def footprints(*scenes: tuple[Affine | None, list[tuple[int, int, int, int]]]) -> Footprints:
    numbers = np.repeat(np.arange(len(scenes)), [len(windows) for _, windows in scenes])
    found = [corners(Ground(UTM if grid else None, grid or Affine.identity(), 64, 64), w) for grid, w in scenes]
    return Footprints(numbers, np.concatenate([windows for _, windows in scenes]), np.concatenate(found))


def shared(found: Footprints, mine: list[int], others: list[int]) -> list[int]:
    """The numbers of those windows that share ground with another."""
    chosen = [np.isin(np.arange(len(found.scene)), some) for some in (mine, others)]
    return np.flatnonzero(found.shared(*chosen)).tolist()


@pytest.mark.parametrize("placed", [True, False])
def test_windows_of_a_scene_share_what_their_pixels_say(placed: bool) -> None:
    rng = np.random.default_rng(0)
    windows = [(int(column), int(row), 16, 16) for column, row in rng.integers(0, 120, (60, 2))]
    covered = np.zeros((60, 140, 140), dtype=bool)
    for number, (column, row, width, height) in enumerate(windows):
        covered[number, row : row + height, column : column + width] = True
    mine, others = list(range(40)), list(range(40, 60))
    truth = [number for number in mine if (covered[number] & covered[others].any(axis=0)).any()]
    assert 0 < len(truth) < 40
    assert shared(footprints((NORTH_UP if placed else None, windows)), mine, others) == truth


@pytest.mark.parametrize(
    ("grid", "touching"),
    [
        (grid_from(NORTH_UP, 16), []),  # the next window of a mosaic: an edge is shared, no ground
        (grid_from(NORTH_UP, 15), [0]),
        (grid_from(NORTH_UP, 16, 16), []),  # a corner
        (grid_from(NORTH_UP, -30, 0, scale=2), [0]),  # 32 pixels wide, it ends two pixels inside
        (grid_from(NORTH_UP, -32, 0, scale=2), []),
        (Affine(8, 6, NORTH_UP.c + 50, 6, -8, NORTH_UP.f - 60), [0]),  # turned
        # Turned by 45 degrees, its bounding square reaches into the window, but the window itself does not.
        (Affine(7, 7, NORTH_UP.c + 170, 7, -7, NORTH_UP.f + 60), []),
    ],
)
def test_windows_of_two_scenes_share_ground_where_they_overlap(grid: Affine, touching: list[int]) -> None:
    window = [(0, 0, 16, 16)]
    found = footprints((NORTH_UP, window), (grid, window))
    assert shared(found, [0], [1]) == touching
    assert shared(found, [1], [0]) == [1 for _ in touching]


def test_scenes_of_two_projections_lie_on_one_earth() -> None:
    """The same ground in the next zone of UTM, a kilometre beside it, and a scene that lies nowhere."""
    here = Ground(UTM, NORTH_UP, 64, 64)
    longitude, latitude = corners(here, [(24, 24, 16, 16)])[0].mean(axis=0)
    degrees = Affine(1e-5, 0, longitude, 0, -1e-5, latitude)
    there = corners(Ground(CRS.from_epsg(4326), degrees, 64, 64), [(0, 0, 16, 16), (1400, 0, 16, 16)])
    nowhere = np.full((1, 4, 2), np.nan)
    found = Footprints(
        np.array([0, 1, 1, 2]), np.array([(24, 24, 16, 16), (0, 0, 16, 16), (1400, 0, 16, 16), (24, 24, 16, 16)]),
        np.concatenate([corners(here, [(24, 24, 16, 16)]), there, nowhere]),
    )  # fmt: skip
    assert shared(found, [1, 2, 3], [0]) == [1]


def test_none_share_ground_where_there_are_no_others() -> None:
    found = footprints((NORTH_UP, [(0, 0, 16, 16), (8, 8, 16, 16)]))
    assert shared(found, [0, 1], []) == []
    assert shared(found, [], [0, 1]) == []


def test_how_many_windows_lie_on_ground_of_another_scene() -> None:
    """Of four windows in a row, as many as the other scene reaches; of scenes that lie nowhere, none."""
    row = [(16 * number, 0, 16, 16) for number in range(4)]
    for shift, share in ((0, 1.0), (32, 0.5), (47, 0.5), (48, 0.25), (64, 0.0)):
        assert footprints((NORTH_UP, row), (grid_from(NORTH_UP, shift), row)).stacked == share
    assert footprints((None, row), (None, row)).stacked == 0
    assert footprints((NORTH_UP, row)).stacked == 0


@pytest.mark.parametrize(("most", "share"), [(8, 0.25), (4, 0.25), (3, 1 / 3), (2, 0.5)])
def test_of_many_windows_no_more_are_asked_than_the_bound(
    most: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every k-th of eight windows is asked, of which the first and the last share ground."""
    row = [(16 * number, 0, 16, 16) for number in range(7)]
    found, asked = footprints((NORTH_UP, row), (NORTH_UP, row[:1])), list[int]()
    real = Footprints._across
    monkeypatch.setattr(shared_ground, "CHUNK", most)
    monkeypatch.setattr(Footprints, "_across", lambda self, *some: asked.append(len(some[0])) or real(self, *some))
    assert found.stacked == share
    assert asked[0] <= most
