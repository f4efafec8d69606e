"""Tables of text, in the terminal and as Markdown, with the results that they were made from."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gcl_custom import console
from gcl_custom.files import write_json, write_text

GAP = 3
"""Largest number of characters between two columns."""


def publish(
    folder: Path,
    results: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str = "",
) -> None:
    """Write ``results.json`` and ``table.md``, and show the table with the note below it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
    write_text(folder / "table.md", markdown(columns, rows) + (f"\n{note}\n" if note else ""))
    show(columns, rows)
    if note:
        console.say(note)


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without breaking words. The first column, which names the rows, is not wrapped.

    If this needs more than the terminal's width, lines run beyond it.
    """
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    widths = _widths(columns, rows)
    for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
        shown.add_column(escape(column), width=width, no_wrap=number == 0)
    for row in rows:
        shown.add_row(*map(escape, row))
    drawn = io.StringIO()
    Console(file=drawn, width=sum(widths) + GAP * len(widths)).print(shown)
    console.say(drawn.getvalue())


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Width of each column in characters: its longest word, and a share of the room that the terminal has left."""
    least, wished = [], []
    for number, column in enumerate(columns):
        cells = [row[number] for row in rows]
        words = [*column.split(), *(cells if number == 0 else " ".join(cells).split())]
        least.append(max(map(len, words), default=0))
        wished.append(max(map(len, [column, *cells])) - least[-1])
    room = max(0, console.console.width - sum(least) - GAP * len(columns))
    share = min(1.0, room / sum(wished)) if any(wished) else 0.0
    return [width + int(share * wish) for width, wish in zip(least, wished, strict=True)]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, with a line break at the end."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
