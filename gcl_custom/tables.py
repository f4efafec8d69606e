"""A table of text, in the terminal and as Markdown."""

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from gcl_custom import console


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the table."""
    shown = Table(*map(escape, columns), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        shown.add_row(*map(escape, row))
    console.console.print(shown)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, ending with a line break."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
