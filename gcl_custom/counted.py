"""Numbers with their nouns and verbs, for a reader: 1 tile is, 2 tiles are."""


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
