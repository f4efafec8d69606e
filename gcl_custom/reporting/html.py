"""Pieces of HTML that the report's sections share. Every text is escaped here or by whoever gives it as markup."""

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Cell(NamedTuple):
    """A cell of a table."""

    markup: str
    number: bool = False
    """Whether it holds numbers, which stand at the right."""


def text(content: str, number: bool = False) -> Cell:
    """A cell with a text as it stands."""
    return Cell(escape(content), number)


def table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], numbers: Sequence[bool]) -> str:
    """A table whose rows have names. On a phone each row is a block that repeats the columns' names.

    Args:
        columns: their names, that of the rows' names first.
        rows: name and cells.
        numbers: whether each column after the first holds numbers.
    """
    heads = [f"<th>{escape(columns[0])}</th>"]
    heads += [
        f'<th class="number">{escape(c)}</th>' if n else f"<th>{escape(c)}</th>"
        for c, n in zip(columns[1:], numbers, strict=True)
    ]
    body = ""
    for name, cells in rows:
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for column, cell in zip(columns[1:], cells, strict=True):
            kind = ' class="number"' if cell.number else ""
            body += f'<td{kind} data-of="{escape(column)}">{cell.markup}</td>'
        body += "</tr>"
    return f'<table class="stack"><thead><tr>{"".join(heads)}</tr></thead><tbody>{body}</tbody></table>'


def picture(png: bytes, description: str) -> str:
    """An embedded picture."""
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def plots(broad: str, narrow: str) -> str:
    """A plot in two widths, of which the page shows the one that fits."""
    return f'<div class="plot broad">{broad}</div><div class="plot narrow">{narrow}</div>'
