"""Scores in percent, with as many decimals as the number of test tiles allows."""

FEW_TILES = 200
"""With fewer test tiles, one of them is more than half a point, so scores have no decimals."""


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
