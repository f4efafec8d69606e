"""Bands: their names, and which of a file's bands make a tile or a picture of one."""

import difflib
import re
from collections.abc import Sequence

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.imagery.values.colours import colours
from gcl_custom.imagery.values.forms import Choice, Form

COLOURS = ("red", "green", "blue")
COLOUR = re.compile(r"\b(red|green|blue|nir|infra-?red)\b", re.IGNORECASE)
"""A word in a file's own name of a band that says whether three bands are a colour picture."""


def with_bands(
    file: Form, stated: Sequence[str] | None, own: tuple[str, ...] | None, use: Sequence[int | str] | None
) -> Form:
    """The form of a data set's tiles.

    Args:
        file: bands and type of most files.
        stated: names of all bands of a file, by the recipe or its card.
        own: names of all bands that the files agree on.
        use: the bands to take, by name or by number.

    Raises:
        UserError: a band to take is not there, or is taken twice.
    """
    of = len(stated) if stated else file.bands
    names = tuple(stated) if stated else own
    if use is None:
        # Software writes names such as "Band 1" into colour pictures, too: of three bands they tell nothing.
        telling = stated or of != 3 or COLOUR.search(" ".join(own or ()))
        return Form(of, file.dtype, names if telling else None)
    names = names or (COLOURS if of == 3 else None)
    numbers = _numbers(use, names, range(1, of + 1), "data.use_bands")
    if twice := [band for place, band in enumerate(use) if numbers[place] in numbers[:place]]:
        raise UserError(f"data.use_bands takes band {twice[0]!r} twice: name each band once")
    called = own if not stated and any(isinstance(band, str) for band in use) else None
    return Form(
        len(numbers), file.dtype, tuple(names[n - 1] for n in numbers) if names else None, Choice(numbers, of, called)
    )


def is_rgb(form: Form) -> bool:
    """Whether a tile is red, green and blue: its names say so, or without names it has all three bands of a file."""
    if form.names:
        return tuple(name.lower() for name in form.names) == COLOURS
    return form.bands == form.of_file == 3


def shown(form: Form, wanted: Sequence[int | str] | None) -> list[int]:
    """The places in a tile of the three bands, or the one in grey, that pictures show.

    Without a wish these are red, green and blue where names say which these are, else the first three or the first.

    Raises:
        UserError: a wanted band is not in the tiles.
    """
    if wanted is not None:
        return [form.numbers.index(n) for n in _numbers(wanted, form.names, form.numbers, "data.quicklook")]
    if found := colours(form.names or ()):
        return list(found)
    return [0, 1, 2] if form.bands >= 3 else [0]


def _numbers(
    bands: Sequence[int | str], names: tuple[str, ...] | None, known: Sequence[int], key: str
) -> tuple[int, ...]:
    """The numbers in a file of bands that are given by name or by number.

    Args:
        names: of the known bands.
        known: numbers in the file.
    """
    found = []
    for band in bands:
        if isinstance(band, int):
            if band not in known:
                which = (
                    f"1 to {len(known)}" if list(known) == [*range(1, len(known) + 1)] else ", ".join(map(str, known))
                )
                raise UserError(f"{key}: there is no band {band}. By number there are {which}")
            found.append(band)
        elif names is None:
            raise UserError(
                f"{key}: {band!r} is a name, and nothing names the {counted(len(known), 'band')}: neither "
                f"data.bands nor a card "
                f"does, and the files have no names or differ in them. Give data.bands, or numbers from 1 on"
            )
        else:
            lower = [name.lower() for name in names]
            if band.lower() not in lower:
                close = difflib.get_close_matches(band.lower(), lower, n=1)
                hint = f". Did you mean {names[lower.index(close[0])]!r}?" if close else ""
                raise UserError(f"{key}: there is no band {band!r}. There are: {', '.join(names)}{hint}")
            found.append(known[lower.index(band.lower())])
    return tuple(found)
