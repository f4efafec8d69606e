import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.values.forms import Choice, Form
from gcl_custom.imagery.values.summary import lacking, of_a_file, require_values, scaling_in_words, share_lacking
from gcl_custom.recipe.imagery import DataSettings, ScalingSettings

FORM = Form(2, "float32", ("B8", "B10"), Choice((8, 11), 13, None))


def test_values_without_data_are_counted_over_tiles_and_bands() -> None:
    tiles = [(), (0.5, 0.5), (), (0.0, 1.0)]
    assert share_lacking(tiles) == 0.25
    assert list(lacking(tiles, FORM)) == [
        "2 of 4 tiles have values without data (nodata, NaN or infinite), 25 % of all values: the networks see 0 "
        "there, the lowest value",
        "bands without any data: B10 in 1 of 4 tiles",
    ]
    assert list(lacking([(), ()], FORM)) == list(lacking([], FORM)) == []


def test_a_band_that_is_always_empty_is_to_be_left_out() -> None:
    *_, last = lacking([(0.0, 1.0), (0.1, 1.0)], FORM)
    assert last == "no tile has data in B10: leave that out with data.use_bands"


def test_the_choice_and_the_scaling_are_said_in_the_names_of_the_bands() -> None:
    assert of_a_file(FORM) == " (B8, B10, of 13 in a file)"
    assert of_a_file(Form(2, "uint8")) == ""
    assert list(scaling_in_words(FORM, [0.25, -3.0], [0.5, 12000.0])) == [
        "values that become 0 to 1: B8 0.25 to 0.5, B10 -3 to 12,000"
    ]
    assert not list(scaling_in_words(Form(3, "uint8"), [0.0] * 3, [255.0] * 3))
    (many,) = scaling_in_words(Form(30, "uint16"), [0.0] * 30, [1.0] * 30)
    assert many.endswith("band 20 0 to 1, and 10 more")


def test_what_a_recipe_says_of_other_bands_is_refused() -> None:
    require_values(FORM, DataSettings(root="r", quicklook=["B10"], scaling=ScalingSettings(low=[0, 1], high=5)))
    with pytest.raises(UserError, match=r"data\.scaling\.high has 3 values, and a tile has 2 bands \(B8, B10\)"):
        require_values(FORM, DataSettings(root="r", scaling=ScalingSettings(low=0, high=[1, 2, 3])))
    with pytest.raises(UserError, match=r"data\.quicklook: there is no band 'red'"):
        require_values(FORM, DataSettings(root="r", quicklook=["red"]))
