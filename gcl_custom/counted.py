"""Numbers for a reader: with nouns and verbs (1 tile is, 2 tiles are), in percent, and the first few of many names."""

from collections.abc import Sequence

FEW_TILES = 200
"""With fewer test tiles, one of them is more than half a point, so scores have no decimals."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, such as 1 tile, 2 tiles or 1,200 tiles.

    Args:
        one: what stands behind 1.
        many: what stands behind other numbers; without it, ``one`` with an s.
    """
    return f"{count:,} {either(count, one, many or f'{one}s')}"


def either(count: int, one: str, many: str) -> str:
    """The word that agrees with a number."""
    return one if count == 1 else many


def examples(names: Sequence[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def stated(share: float) -> str:
    """A share that a recipe states, in percent with all its digits: 0.2% for 0.002."""
    return f"{100 * share:g}%"


def decimals(tiles: int) -> int:
    """Decimals of a score in percent that so many test tiles carry."""
    return 0 if tiles < FEW_TILES else 1


def percent(share: float, tiles: int) -> str:
    """A score in percent."""
    return f"{score_text(share, tiles)}\N{NO-BREAK SPACE}%"


def score_text(share: float, tiles: int) -> str:
    """A score in percent, without the sign."""
    return f"{100 * share:.{decimals(tiles)}f}"


def points(difference: float, tiles: int) -> str:
    """A difference of two scores, in percentage points with its sign."""
    text = signed(difference, tiles)
    return f"{text} point{'' if text in ('+1', '−1') else 's'}"


def signed(share: float, tiles: int) -> str:
    """A difference of two scores in percentage points; what rounds to zero has no sign."""
    text = f"{100 * share:+.{decimals(tiles)}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
