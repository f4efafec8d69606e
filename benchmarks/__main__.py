"""Run benchmarks, keep what they find, and print one table of all that is kept.

python -m benchmarks              all of them, about half an hour on two cores
python -m benchmarks start views  some
python -m benchmarks --page       only write the table into docs/speed.md
"""

import re
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import record

NAMES = (
    *("start", "contention", "reading", "pretraining", "norms", "precision", "memory", "fsdp", "scenes"),
    *("generator", "views", "object_storage"),
    "scaling",
)
"""Modules with ``rows``."""
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BETWEEN = re.compile(r"(<!-- (benchmarks|scaling) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
"""Predictions have a table of their own."""


def main(names: list[str]) -> None:
    """Measure, keep and show."""
    if unknown := [name for name in names if name not in (*NAMES, "--page")]:
        raise SystemExit(f"there is no benchmark {', '.join(unknown)}: there are {', '.join(NAMES)}")
    if names != ["--page"]:
        for name in names or NAMES:
            record.measure(name, import_module(f"benchmarks.{name}").rows)
    table = Table(*record.HEADS, box=None)
    for kept in record.read():
        for row in record.cells(kept):
            table.add_row(*row)
    Console(width=200).print(table)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with the tables of what is kept."""

    def table(name: str) -> str:
        found = (kept for kept in record.read() if (kept["benchmark"] == "scaling") == (name == "scaling"))
        return record.as_markdown(found)

    return BETWEEN.sub(lambda found: found[1] + table(found[2]) + found[3], text)


if __name__ == "__main__":
    main(sys.argv[1:])
