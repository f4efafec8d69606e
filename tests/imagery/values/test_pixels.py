import numpy as np
import pytest

from gcl_custom.imagery.values.forms import Choice, Form, Picture, Unusable, missing
from gcl_custom.imagery.values.pixels import chosen, from_array, without_fill, without_missing


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_measurement_is_masked_in_its_band_alone(dtype: type) -> None:
    pixels = np.arange(1.0, 19.0).reshape(2, 3, 3).astype(dtype)
    pixels[0, 0] = [np.nan, np.inf, -np.inf]
    pixels[0, 1, 0] = 9.96921e36
    pixels[:, 2, 2] = np.finfo(np.float32).min
    picture = without_missing(pixels, np.ones(pixels.shape, dtype=bool), alpha=False)
    assert picture.pixels.dtype == np.float32
    assert picture.by_band is not None
    assert picture.by_band[0].tolist() == [[False] * 3, [False, True, True], [True, True, False]]
    assert picture.valid is not None
    assert np.argwhere(~picture.valid).tolist() == [[2, 2]], "a pixel without data has none in any band"
    assert np.array_equal(picture.pixels, np.where(picture.by_band, pixels, 0).astype(np.float32))


def test_float64_beyond_float32_is_no_measurement_and_warns_of_nothing() -> None:
    picture = without_missing(np.array([[[1e300, -1.7e308, 2.5]]]), np.ones((1, 1, 3), dtype=bool), alpha=False)
    assert picture.pixels.tolist() == [[[0, 0, 2.5]]]
    assert picture.valid is not None
    assert picture.valid.tolist() == [[False, False, True]]


def test_integers_are_masked_by_their_mask_alone() -> None:
    pixels = np.array([[[-32768, 0, 5]]], dtype=np.int16)
    assert without_missing(pixels, np.ones((1, 1, 3), dtype=bool), alpha=False).valid is None
    masked = without_missing(pixels, np.array([[[True, False, True]]]), alpha=False)
    assert masked.by_band is None
    assert masked.valid is not None
    assert masked.valid.tolist() == [[True, False, True]]


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0), ("uint16", 0), ("int16", -(2**15))])
def test_where_there_is_no_data_stands_the_lowest_value(dtype: str, value: int) -> None:
    assert missing(dtype) == value
    assert np.float32(missing("float32")) == np.finfo(np.float32).min


def test_bands_of_an_array_are_chosen_as_those_of_a_file() -> None:
    form = Form(2, "uint8", None, Choice((4, 1), 4, None))
    pixels = np.arange(4 * 30, dtype=np.uint8).reshape(4, 5, 6)
    assert np.array_equal(chosen(pixels, form), pixels[[3, 0]])
    assert chosen(pixels, None) is pixels
    for given in (pixels, pixels.transpose(1, 2, 0)):
        assert np.array_equal(from_array(given, form).pixels, pixels[[3, 0]])
    with pytest.raises(Unusable, match="2, the data set has 4"):
        from_array(pixels[:2], form)
    with pytest.raises(Unusable, match="complex64; only uint8, uint16, int16, float32, float64 are read"):
        from_array(pixels.astype(np.complex64), form)


@pytest.mark.parametrize(
    ("fill", "masks"), [(-9999.0, [[1, 0, 0], [1, 1, 0]]), (0.0, [[1, 1, 0], [1, 1, 0]])]
)  # 0 may be a measurement, so it counts where all bands have it
def test_a_fill_value_is_no_data(fill: float, masks: list[list[int]]) -> None:
    pixels = np.array([[[5, fill, fill]], [[7, 9, fill]]], dtype=np.int16)
    picture = without_missing(pixels, np.ones(pixels.shape, dtype=bool), alpha=False, fill=fill)
    by_band = picture.by_band if picture.by_band is not None else np.broadcast_to(picture.valid, pixels.shape)
    assert by_band[:, 0].tolist() == np.array(masks, bool).tolist()
    assert picture.valid.tolist() == [[True, True, False]]
    assert picture.pixels[:, 0].tolist() == np.where(masks, [[5, fill, fill], [7, 9, fill]], 0).tolist()


def test_a_fill_value_counts_in_arrays_and_pictures_too() -> None:
    form = Form(3, "uint8", fill=255.0)
    pixels = np.full((3, 2, 2), 9, np.uint8)
    pixels[:, 0, 0] = 255
    arrays = from_array(pixels, form)
    picture = without_fill(Picture(pixels, None, alpha=False), form)
    for found in (arrays, picture):
        assert found.valid.tolist() == [[False, True], [True, True]]
    assert without_fill(Picture(pixels, None, alpha=False), form._replace(fill=None)).valid is None
