"""What init chooses for the bands of a folder: which are taken, which are shown, and how values become 0 to 1."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gcl_custom.check.inventory import Inventory
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.values.bands import is_rgb
from gcl_custom.imagery.values.colours import colours
from gcl_custom.recipe.imagery import PERCENTILES

FEWEST_BANDS = 4
"""With fewer bands all are taken."""
FEW_VALUES = 12
"""A band with so many different values at most is no measurement: a mask, classes, or noise at the edge of nothing."""
EXAMPLES = {"float32": "{low: 0, high: 1}", "uint16": "{low: 0, high: 10000}", "int16": "{low: 0, high: 10000}"}
"""Of scaling by stated values: reflectance, as it is and times 10,000."""


class Chosen(NamedTuple):
    """Values of keys of the section data, and why."""

    values: dict[str, Any]
    reasons: dict[str, str]


def band_choices(form: Form, found: Inventory, of_files: Sequence[str] | None) -> Chosen:
    """What fits the bands.

    Args:
        form: of the tiles, with all bands.
        found: what was seen of them.
        of_files: the names of bands in the first file, if it has any; those in ``form`` are of all files.
    """
    chosen = Chosen({}, {})
    if form.dtype != "uint8":
        low, high = found.ranges.T
        chosen.values["data.scaling"] = {"percentiles": list(PERCENTILES)}
        chosen.reasons["data.scaling"] = (
            f"these percentiles of each band over the training tiles become 0 and 1; here bands reach from "
            f"{low.min():,.5g} to {high.max():,.5g}. Or state values, for reflectance such as {EXAMPLES[form.dtype]}"
        )
    if is_rgb(form) or form.bands < FEWEST_BANDS:
        return chosen
    said = form.names or of_files
    wanted: list[int] = [place for place in range(form.bands) if found.different(place) > FEW_VALUES]
    shown = colours(said) if said and len(said) == form.bands else None
    if shown and not set(shown) <= set(wanted):
        shown = None
    if FEWEST_BANDS - 1 <= len(wanted) < form.bands:
        left = [
            f"{_called(form, said, place)} ({_count(found.different(place))})"
            for place in range(form.bands)
            if place not in wanted
        ]
        chosen.values["data.use_bands"] = [_named(form, place) for place in wanted]
        chosen.reasons["data.use_bands"] = (
            f"without {', '.join(left)} in the files that were read: such a band is a mask, classes or empty, and no "
            f"picture. Without this line all {form.bands} bands are taken"
        )
    places = shown or tuple(wanted[:3] if len(wanted) >= FEWEST_BANDS - 1 else range(3))
    chosen.values["data.quicklook"] = [_named(form, place) for place in places]
    why = "the first three, since no names say which these are. Give their numbers"
    if said and shown:
        why = f"by name they are {', '.join(said[place] for place in places)}"
    chosen.reasons["data.quicklook"] = f"bands that pictures show as red, green and blue: {why}"
    return chosen


def _named(form: Form, place: int) -> int | str:
    """A band as a recipe states it: by the name that all files give it, where no other has the same."""
    if form.names and [name.lower() for name in form.names].count(form.names[place].lower()) == 1:
        return form.names[place]
    return form.numbers[place]


def _called(form: Form, said: Sequence[str] | None, place: int) -> str:
    name = said[place] if said and len(said) == form.bands else ""
    return f"band {form.numbers[place]}" if not name or name.isdecimal() else name


def _count(different: int) -> str:
    return "one value" if different == 1 else f"{different} different values"
