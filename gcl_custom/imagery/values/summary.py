"""What is said of values: bands and edges that the recipe gives amiss, values without data, and the scaling."""

from collections.abc import Iterator, Sequence

from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.imagery.values.bands import shown
from gcl_custom.imagery.values.forms import Form
from gcl_custom.recipe.imagery import DataSettings

MOST_BANDS = 20
"""Most bands that a line names."""


def require_values(form: Form, data: DataSettings) -> None:
    """Check what the recipe says of single bands against the bands that there are.

    Raises:
        UserError: a band of the quicklook is not among them, or edges are for another number of bands.
    """
    shown(form, data.quicklook)
    for name, given in (("low", data.scaling.low), ("high", data.scaling.high)):
        if isinstance(given, list) and len(given) != form.bands:
            raise UserError(
                f"data.scaling.{name} has {counted(len(given), 'value')}, and a tile has {counted(form.bands, 'band')} "
                f"({_few(form.labels)}): give one for each, or one number for all"
            )


def of_a_file(form: Form) -> str:
    """Which bands of a file make a tile, where there is a choice."""
    return f" ({_few(form.labels)}, of {form.of_file} in a file)" if form.choice else ""


def share_lacking(tiles: Sequence[Sequence[float]]) -> float:
    """Share of all values that hold no data.

    Args:
        tiles: the share of each band of each tile; empty for a tile that lacks none.
    """
    return sum(sum(bands) / len(bands) for bands in tiles if bands) / max(1, len(tiles))


def lacking(tiles: Sequence[Sequence[float]], form: Form) -> Iterator[str]:
    """Say how many values hold no data, and which bands hold none at all.

    Args:
        tiles: as in ``share_lacking``.
    """
    some = [bands for bands in tiles if bands]
    if not some:
        return
    yield (
        f"{len(some):,} of {len(tiles):,} tiles {either(len(some), 'has', 'have')} values without data (nodata, "
        f"NaN or infinite), "
        f"{100 * share_lacking(tiles):.2g} % of all values: the networks see 0 there, the lowest value"
    )
    empty = [sum(bands[band] == 1 for bands in some) for band in range(form.bands)]
    if found := [f"{label} in {count:,}" for label, count in zip(form.labels, empty, strict=True) if count]:
        yield f"bands without any data: {_few(found)} of {len(tiles):,} tiles"
    if useless := [label for label, count in zip(form.labels, empty, strict=True) if count == len(tiles)]:
        yield f"no tile has data in {_few(useless)}: leave that out with data.use_bands"


def scaling_in_words(form: Form, low: Sequence[float], high: Sequence[float]) -> Iterator[str]:
    """Say which values become 0 and 1, where this is not a matter of course."""
    if form.dtype == "uint8" and set(low) == {0} and set(high) == {255}:
        return
    edges = [f"{label} {a:,.6g} to {b:,.6g}" for label, a, b in zip(form.labels, low, high, strict=True)]
    yield f"values that become 0 to 1: {_few(edges)}"


def _few(texts: Sequence[str]) -> str:
    return ", ".join(
        [*texts[:MOST_BANDS], *([f"and {len(texts) - MOST_BANDS} more"] if len(texts) > MOST_BANDS else [])]
    )
