"""Which bands init takes and shows, on made values with a known answer."""

import numpy as np

from gcl_custom.check.band_choices import Chosen, band_choices
from gcl_custom.check.inventory import Inventory, Seen
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.values.forms import TileType


def chosen(
    bands: int,
    few: int | None = None,
    names: tuple[str, ...] | None = None,
    of_files: tuple[str, ...] | None = None,
    dtype: TileType = "uint16",
) -> Chosen:
    """For tiles whose bands hold many values, apart from one."""
    values = np.random.default_rng(0).permuted(np.tile(np.arange(64, dtype=dtype), (bands, 1)), axis=1)
    if few is not None:
        values[few] %= 2
    found = Inventory(1, 1, {Source("a.tif"): Seen(None, np.ones(bands), values, "a")})
    return band_choices(Form(bands, dtype, names), found, of_files)


def test_colours_are_shown_by_name_or_by_number() -> None:
    named = ("B02", "B03", "B04", "B08")
    assert chosen(4, names=named).values["data.quicklook"] == ["B04", "B03", "B02"]
    only_in_one_file = chosen(4, of_files=named)
    assert only_in_one_file.values["data.quicklook"] == [3, 2, 1]
    assert "B04, B03, B02" in only_in_one_file.reasons["data.quicklook"]
    nameless = chosen(4)
    assert nameless.values["data.quicklook"] == [1, 2, 3]
    assert "no names say" in nameless.reasons["data.quicklook"]


def test_a_name_that_two_bands_have_is_no_name() -> None:
    assert chosen(5, names=("red", "green", "blue", "x", "X")).values["data.quicklook"] == ["red", "green", "blue"]
    left = chosen(6, few=0, names=("m", "red", "green", "blue", "x", "X"))
    assert left.values["data.use_bands"] == ["red", "green", "blue", 5, 6]


def test_a_band_of_few_values_is_left_out_and_said() -> None:
    found = chosen(5, few=4)
    assert found.values["data.use_bands"] == [1, 2, 3, 4]
    assert "without band 5 (2 different values)" in found.reasons["data.use_bands"]
    masked_red = chosen(4, few=2, names=("B02", "B03", "B04", "B08"))
    assert masked_red.values["data.use_bands"] == ["B02", "B03", "B08"]
    assert masked_red.values["data.quicklook"] == ["B02", "B03", "B08"], "a band that is left out is not shown"
    assert "data.use_bands" not in chosen(5).values


def test_colour_pictures_and_few_bands_keep_all_that_they_have() -> None:
    assert chosen(3, few=1, names=("red", "green", "blue"), dtype="uint8").values == {}
    assert set(chosen(2, few=1).values) == {"data.scaling"}


def test_the_scaling_of_other_types_than_8_bits_is_stated() -> None:
    floats = chosen(2, dtype="float32")
    assert floats.values["data.scaling"] == {"percentiles": [0.1, 99.9]}
    assert "reach from 0.063 to 62.937" in floats.reasons["data.scaling"]
    assert "{low: 0, high: 1}" in floats.reasons["data.scaling"]
    assert "data.scaling" not in chosen(4, dtype="uint8").values
