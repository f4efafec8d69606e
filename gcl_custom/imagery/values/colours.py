"""Which bands are red, green and blue, by the names that files or people give them."""

import re
from collections.abc import Sequence

WAVELENGTHS = (665.0, 560.0, 490.0)
"""Of red, green and blue, in nanometres: the bands 4, 3 and 2 of Sentinel-2."""
NEAR = 40.0
"""Most nanometres that a band may lie off."""
STATED = re.compile(r"(\d+(?:\.\d+)?)\s*(nm\b|nanomet|[uµμ]m\b|micromet)", re.IGNORECASE)
NUMBERED = re.compile(r"(?:^|[^a-z0-9])(?:b|band[ _-]?)0?(\d{1,2}a?)(?![a-z0-9])", re.IGNORECASE)
UNTOLD = re.compile(r"\s*band[ _-]?\d+\s*", re.IGNORECASE)
"""A name that only counts, as software writes it: number 4 of such is no mission's band 4."""
THERMAL = re.compile(r"thermal|temperature|(?:^|_)st_", re.IGNORECASE)
OTHER_RED = ("edge", "near", "infra", "infrared", "short")
"""Words beside red that say that a band is another one."""


def colours(names: Sequence[str]) -> tuple[int, int, int] | None:
    """The places of red, green and blue among bands; None if the names do not say.

    Names are words (``red``, ``SR_Red``), wavelengths (``band 12 (665 nm)``), or the numbers of Sentinel-2 (``B04``)
    and Landsat (``SR_B3``). Missions count differently: red is 4 on Sentinel-2 and Landsat 8 and 9, and 3 on Landsat 4
    to 7, whose bands 1 to 5 and 7 reflect and whose band 6 is thermal.
    """
    return _by_words(names) or _by_wavelengths(names) or _by_numbers(names)


def _by_words(names: Sequence[str]) -> tuple[int, int, int] | None:
    words = [[word for word in re.split(r"[^a-z]+", name.lower()) if word] for name in names]
    return _of_three(
        [
            [place for place, each in enumerate(words) if colour in each and not set(each) & set(OTHER_RED)]
            for colour in ("red", "green", "blue")
        ]
    )


def _by_wavelengths(names: Sequence[str]) -> tuple[int, int, int] | None:
    stated = {
        place: float(found[1]) * (1 if found[2].lower().startswith("n") else 1000)
        for place, name in enumerate(names)
        if (found := STATED.search(name))
    }
    if len(stated) < 3:
        return None
    nearest = [min(stated, key=lambda place: abs(stated[place] - wanted)) for wanted in WAVELENGTHS]
    off = [abs(stated[place] - wanted) for place, wanted in zip(nearest, WAVELENGTHS, strict=True)]
    return _of_three([[place] for place in nearest]) if max(off) <= NEAR else None


def _by_numbers(names: Sequence[str]) -> tuple[int, int, int] | None:
    if all(UNTOLD.fullmatch(name) for name in names):
        return None
    numbers = {
        found[1].lower(): place
        for place, name in enumerate(names)
        if (found := NUMBERED.search(name)) and not THERMAL.search(name)
    }
    there = set(numbers)
    if there & {"8a", "9", "11", "12"} or {"2", "3", "4", "8"} == there or {"2", "3", "4", "6", "7"} <= there:
        red = 4  # Sentinel-2, or Landsat 8 and 9
    elif {"1", "2", "3", "4", "5", "7"} == there:
        red = 3
    else:
        return None
    wanted = [str(red), str(red - 1), str(red - 2)]
    return _of_three([[numbers[number]] for number in wanted]) if set(wanted) <= there else None


def _of_three(places: Sequence[Sequence[int]]) -> tuple[int, int, int] | None:
    """One place of each colour, all different; None if a colour has none or several."""
    if any(len(each) != 1 for each in places):
        return None
    red, green, blue = (each[0] for each in places)
    return (red, green, blue) if len({red, green, blue}) == 3 else None
