"""Red, green and blue among bands by name: what missions and people write."""

import pytest

from gcl_custom.imagery.values.colours import colours

SENTINEL = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]
KNOWN = {
    "words": (["blue", "green", "red", "near infrared"], (2, 1, 0)),
    "words in names": (["SR_Blue", "SR_Green", "SR_Red", "SR_RedEdge", "SR_NIR"], (2, 1, 0)),
    "red edge": (["Red Edge 1", "Red", "Green", "Blue", "Near Infra-Red"], (1, 2, 3)),
    "Sentinel-2": (SENTINEL, (3, 2, 1)),
    "Sentinel-2 with zeros": (["B02", "B03", "B04", "B08"], (2, 1, 0)),
    "Sentinel-2, in other words": ([f"S2_{name} reflectance" for name in SENTINEL], (3, 2, 1)),
    "Landsat 8": ([f"SR_B{number}" for number in range(1, 8)], (3, 2, 1)),
    "Landsat 7": ([f"SR_B{number}" for number in (1, 2, 3, 4, 5, 7)], (2, 1, 0)),
    "Landsat 7 with its thermal band": (
        [*(f"band {number} reflectance" for number in (1, 2, 3, 4, 5, 7)), "band 6 temperature", "8"],
        (2, 1, 0),
    ),
    "nanometres": (["band 1 (492.4 nm)", "band 2 (559.8 nm)", "band 3 (664.6 nm)", "band 4 (832.8 nm)"], (2, 1, 0)),
    "micrometres": (["0.865 um", "0.665 µm", "0.56 micrometers", "0.49 um"], (1, 2, 3)),
}


@pytest.mark.parametrize("case", KNOWN)
def test_colours_are_found_by_name(case: str) -> None:
    names, places = KNOWN[case]
    assert colours(names) == places


@pytest.mark.parametrize(
    "names",
    [
        ["VV", "VH"],
        [f"Band {number}" for number in range(1, 14)],
        ["red", "green", "near infrared"],
        ["red", "red", "green", "blue"],
        ["B1", "B2", "B3"],
        ["1650 nm", "2200 nm", "10900 nm"],
        [],
    ],
)
def test_what_names_do_not_say_is_not_guessed(names: list[str]) -> None:
    assert colours(names) is None
