"""Numbers with their nouns and verbs, for a reader: 1 tile is, 2 tiles are. And the first few of many names."""

from collections.abc import Sequence


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
