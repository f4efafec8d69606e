import math

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from gcl_custom.imagery.scenes.ground import Ground, nearest, resample, resampled, shown_part
from gcl_custom.imagery.scenes.opening import NoScene

UTM = CRS.from_epsg(32633)


def ground(side: float = 10.0, turn: float = 0.0, crs: CRS | None = UTM, pixels: int = 64) -> Ground:
    corner = (500_000, 5_500_000) if crs == UTM else (15.0, 49.6)
    cosine, sine = side * math.cos(math.radians(turn)), side * math.sin(math.radians(turn))
    return Ground(crs, Affine(cosine, sine, corner[0], sine, -cosine, corner[1]), pixels, pixels)


def test_a_scene_that_has_the_resolution_keeps_its_own_pixels() -> None:
    assert resampled(ground(10.0), 10.0) is not None
    assert resampled(ground(10.0), 10.0) == ground(10.0)
    assert resampled(ground(10.0), 20.0) != ground(10.0)


def test_half_the_resolution_is_the_mean_of_four_pixels_where_the_scene_is_smooth() -> None:
    own = ground(10.0)
    onto = resampled(own, 20.0)
    assert (onto.crs, onto.width, onto.height, onto.transform[0], onto.transform[4]) == (UTM, 32, 32, 20, -20)
    ramp = (np.arange(64)[None, :] * 100 + np.arange(64)[:, None] * 7).astype(np.float32)[None]
    found, valid = resample(ramp, None, own, onto)
    mean = ramp.reshape(1, 32, 2, 32, 2).mean((2, 4))
    assert valid.all()
    np.testing.assert_allclose(found[:, 2:-2, 2:-2], mean[:, 2:-2, 2:-2], atol=1e-2)


def test_nodata_is_not_averaged_into_its_neighbours() -> None:
    own = ground(10.0)
    pixels, valid = np.full((1, 64, 64), 500, np.uint16), np.ones((64, 64), bool)
    pixels[:, :, :30], valid[:, :30] = 65535, False
    found, masks = resample(pixels, valid[None], own, resampled(own, 20.0))
    there = masks[0]
    assert set(np.unique(found[:, there])) == {500}
    assert set(np.unique(found[:, ~there])) == {0}
    assert there.mean() == pytest.approx(34 / 64, abs=1 / 64)


@pytest.mark.parametrize("turn", [0, 30, 90, 200])
def test_a_turned_scene_comes_to_lie_north_up_and_every_pixel_keeps_its_place(turn: float) -> None:
    """The value of a pixel is its coordinate, so it can be told where it came from."""
    own = ground(10.0, turn)
    onto = resampled(own, 5.0)
    assert (onto.transform[1], onto.transform[3]) == (0, 0)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    a, b, c, d, e, f = own.transform[:6]
    where = np.stack([a * columns + b * rows + c - 500_000, d * columns + e * rows + f - 5_500_000]).astype(np.float32)
    found, masks = resample(where, None, own, onto)
    valid = masks[0]
    columns, rows = np.meshgrid(np.arange(onto.width) + 0.5, np.arange(onto.height) + 0.5)
    a, b, c, d, e, f = onto.transform[:6]
    truth = np.stack([a * columns + c - 500_000, e * rows + f - 5_500_000])
    assert valid.sum() * 25 == pytest.approx(64 * 64 * 100, rel=0.02)
    inner = np.zeros_like(valid)
    inner[4:-4, 4:-4] = True
    inner &= valid
    off = np.abs(found - truth)[:, inner]
    assert np.percentile(off, 95) < 0.5  # the outermost pixels of the scene are bent inwards
    assert off.max() < 10


def test_degrees_and_web_mercator_become_the_zone_of_utm() -> None:
    degrees = ground(0.0001, crs=CRS.from_epsg(4326))
    onto = resampled(degrees, 10.0)
    assert onto.crs.to_epsg() == 32633
    assert onto.height == pytest.approx(64 * 0.0001 * 111_230 / 10, abs=2)
    mercator = Ground(CRS.from_epsg(3857), Affine(10, 0, 1_669_000, 0, -10, 6_375_000), 64, 64)
    onto = resampled(mercator, 10.0)
    assert onto.crs.to_epsg() == 32633
    assert onto.width < 50  # its metres are shorter there
    south = Ground(CRS.from_epsg(4326), Affine(0.0001, 0, 15.0, 0, -0.0001, -20), 64, 64)
    assert resampled(south, 10.0).crs.to_epsg() == 32733


def test_what_lies_nowhere_is_not_resampled() -> None:
    with pytest.raises(NoScene, match="no coordinates"):
        resampled(ground(crs=None), 10.0)


def test_metres_are_those_on_the_ground() -> None:
    assert ground(10.0, 30).metres == pytest.approx(10)
    degrees = Ground(CRS.from_epsg(4326), Affine(0.001, 0, 15.0, 0, -0.001, 60.05), 100, 100)
    assert degrees.metres == pytest.approx(111.32 * 0.5**0.5, rel=1e-2)
    assert ground(crs=None).metres is None


def test_the_part_that_is_read_holds_what_a_window_shows_and_little_more() -> None:
    own = ground(10.0, pixels=1000)
    window = ground(10.0, pixels=1000).part((100, 200, 64, 64))
    assert shown_part(own, window) == (98, 198, 68, 68)
    aside = Ground(UTM, Affine(10, 0, 0, 0, -10, 0), 64, 64)
    assert shown_part(own, aside) is None


def test_kinds_are_not_mixed() -> None:
    own = ground(20.0, pixels=32)
    kinds = np.random.default_rng(0).choice([0, 3, 9], (32, 32))
    found = nearest(kinds, own, resampled(own, 10.0))
    assert np.array_equal(found, kinds.repeat(2, 0).repeat(2, 1))
