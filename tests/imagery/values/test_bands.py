import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.values.bands import is_rgb, shown, with_bands
from gcl_custom.imagery.values.forms import Choice, Form

SENTINEL = ("B1", "B2", "B3", "B4", "B8", "B8A")
SIX = Form(6, "uint16")


def test_bands_are_taken_in_the_order_of_the_recipe_by_number_or_by_name() -> None:
    by_number = with_bands(SIX, None, SENTINEL, [5, 4, 3])
    by_name = with_bands(SIX, None, SENTINEL, ["B8", "b4", "B3"])
    assert by_number == Form(3, "uint16", ("B8", "B4", "B3"), Choice((5, 4, 3), 6, None))
    assert by_name == by_number._replace(choice=Choice((5, 4, 3), 6, SENTINEL)), "a file must call its bands so"
    stated = with_bands(SIX, list("abcdef"), SENTINEL, ["e", "a"])
    assert stated == Form(2, "uint16", ("e", "a"), Choice((5, 1), 6, None)), "the recipe's names need no file's"
    assert with_bands(SIX, None, None, [6]) == Form(1, "uint16", None, Choice((6,), 6, None))
    assert with_bands(Form(3, "uint8"), None, None, ["green"]).numbers == (2,)


def test_the_form_is_the_same_after_json() -> None:
    for form in (SIX, with_bands(SIX, None, SENTINEL, ["B8", 1]), with_bands(SIX, list("abcdef"), None, None)):
        assert Form.of({**form.entries(), "size": 64}) == form


@pytest.mark.parametrize(
    ("use", "own", "message"),
    [
        (["B08"], SENTINEL, r"no band 'B08'\. There are: B1, B2, B3, B4, B8, B8A\. Did you mean 'B8'\?"),
        (["thermal"], SENTINEL, r"no band 'thermal'\. There are: B1, B2, B3, B4, B8, B8A$"),
        (["B8"], None, r"'B8' is a name, and nothing names the 6 bands"),
        ([0], SENTINEL, "no band 0. By number there are 1 to 6"),
        ([7], None, "no band 7. By number there are 1 to 6"),
        (["B8", 1, 5], SENTINEL, "takes band 5 twice"),
    ],
)
def test_a_band_that_is_not_there_is_one_message_that_lists_those_that_are(
    use: list[int | str], own: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        with_bands(SIX, None, own, use)


@pytest.mark.parametrize(
    ("stated", "own", "use", "rgb"),
    [
        (["nir", "blue", "green", "red"], None, ["red", "green", "blue"], True),
        (["nir", "blue", "green", "Red"], None, [4, 3, 2], True),
        (["nir", "blue", "green", "red"], None, ["nir", "red", "green"], False),
        (None, None, [4, 3, 2], False),
        (None, None, None, False),
    ],
)
def test_three_chosen_bands_are_colours_if_they_are_called_so(
    stated: list[str] | None, own: tuple[str, ...] | None, use: list[int | str] | None, rgb: bool
) -> None:
    assert is_rgb(with_bands(Form(4, "uint16"), stated, own, use)) is rgb


@pytest.mark.parametrize(
    ("stated", "own", "use", "rgb"),
    [
        (None, None, None, True),
        (None, ("Band 1", "Band 2", "Band 3"), None, True),
        (None, ("B4", "B3", "B2"), None, True),
        (None, ("vis-red", "vis-green", "vis-blue"), None, False),
        (None, ("red", "green", "blue"), None, True),
        (None, ("NIR", "Red", "Green"), None, False),
        (["a", "b", "c"], None, None, False),
        (["blue", "green", "red"], None, ["red", "green", "blue"], True),
        (None, None, [3, 2, 1], False),
    ],
)
def test_three_bands_of_three_are_colours_unless_their_names_say_otherwise(
    stated: list[str] | None, own: tuple[str, ...] | None, use: list[int | str] | None, rgb: bool
) -> None:
    assert is_rgb(with_bands(Form(3, "uint8"), stated, own, use)) is rgb


def test_pictures_show_the_wanted_bands_or_colours_or_the_first() -> None:
    form = with_bands(SIX, ["nir", "blue", "green", "red", "x", "y"], None, None)
    assert shown(form, None) == [3, 2, 1]
    assert shown(form, ["nir", 4, "green"]) == [0, 3, 2]
    assert shown(SIX, None) == [0, 1, 2]
    assert shown(Form(2, "uint8"), None) == [0]
    chosen = with_bands(SIX, None, SENTINEL, ["B8A", "B4", "B3"])
    assert shown(chosen, [3, "B4", 6]) == [2, 1, 0], "numbers are those in a file"
    with pytest.raises(UserError, match=r"data\.quicklook: there is no band 1\. By number there are 6, 4, 3"):
        shown(chosen, [1])
    with pytest.raises(UserError, match=r"data\.quicklook: there is no band 'B2'\. There are: B8A, B4, B3"):
        shown(chosen, ["B2"])
