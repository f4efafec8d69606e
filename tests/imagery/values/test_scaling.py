import numpy as np
import pytest

from gcl_custom.imagery.values import scaling
from gcl_custom.imagery.values.forms import Form, missing
from gcl_custom.imagery.values.scaling import band_edges, edges
from gcl_custom.recipe.imagery import ScalingSettings


def tiles(dtype: str, low: float = 0, high: float = 200) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (9, 2, 16, 16)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_percentiles_are_those_of_the_training_tiles_that_hold_data(dtype: str) -> None:
    pixels = tiles(dtype, -200 if dtype != "uint16" else 1)
    pixels[:, 0, :4] = missing(dtype)
    pixels[[1, 8]] = 30000 if dtype != "float32" else 3e5  # not for training
    train = [0, 2, 3, 4, 5, 6, 7]
    for settings, two in ((ScalingSettings(), [0.1, 99.9]), (ScalingSettings(percentiles=[2, 50]), [2, 50])):
        low, high = edges(pixels, train, Form(2, dtype), settings)
        for band, values in enumerate((pixels[train][:, 0, 4:], pixels[train][:, 1])):
            assert [low[band], high[band]] == pytest.approx(np.percentile(values, two))


def test_zero_is_a_value_of_floats_and_signed_integers_and_may_be_nodata_in_others() -> None:
    for dtype, expected in (("uint16", 50), ("int16", 0), ("float32", 0)):
        pixels = np.full((1, 1, 16, 16), 50, dtype=dtype)
        pixels[..., :8, :] = 0
        assert edges(pixels, [0], Form(1, dtype), ScalingSettings())[0] == [expected]


def test_eight_bits_are_divided_by_255_unless_the_recipe_says_otherwise() -> None:
    pixels = tiles("uint8", 20, 60)
    form = Form(2, "uint8")
    assert edges(pixels, [0], form, ScalingSettings()) == ([0, 0], [255, 255])
    (low, _), (high, _) = edges(pixels, [0], form, ScalingSettings(percentiles=[0, 100]))
    assert (low, high) == (20, 59)


def test_a_given_scaling_reads_no_tile() -> None:
    form = Form(2, "float32")
    nothing = np.zeros((1, 2, 16, 16), dtype=np.float32)
    assert edges(nothing, [0], form, ScalingSettings(low=0, high=[0.3, 0.6])) == ([0, 0], [0.3, 0.6])
    assert edges(nothing, [0], form, ScalingSettings(low=-1.5, high=2)) == ([-1.5] * 2, [2, 2])


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_a_constant_band_and_an_empty_one_do_not_divide_by_zero(dtype: str) -> None:
    assert band_edges(np.array([], dtype=dtype), 2.0, 98.0) == (0, 1)
    low, high = band_edges(np.full(9, 20000, dtype=dtype), 2.0, 98.0)
    assert (low, np.float32(high) > np.float32(low)) == (20000, True)
    low, high = band_edges(np.full(9, -3e29, dtype=np.float32), 2.0, 98.0)
    assert np.float32(high) > np.float32(low)


def test_reflectance_below_one_keeps_its_narrow_range() -> None:
    low, high = band_edges(np.linspace(0.02, 0.4, 1000, dtype=np.float32), 0.0, 100.0)
    assert (low, high) == pytest.approx((0.02, 0.4))


def test_of_many_tiles_some_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SAMPLE", 3 * 256)
    pixels = tiles("float32")
    found = list(scaling.sampled(pixels, [7, 0, 1, 2, 3, 4, 5, 6, 8]))
    assert np.array_equal(found[1], pixels[[0, 3, 6], 1].reshape(-1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percentiles": [98, 2]}, "must ascend"),
        ({"low": 1.0}, "give both"),
        ({"percentiles": [1, 2], "low": 1.0, "high": 2.0}, "give either percentiles"),
        ({"low": [1.0, 2.0], "high": [1.5, 2.0]}, "high must lie above low in every band, not 2 above 2"),
        ({"low": [1.0, 2.0], "high": [2.0, 3.0, 4.0]}, "low has 2 values and high 3"),
        ({"low": 1e-9, "high": 0.0}, "high must lie above low"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScalingSettings(**settings)
