"""Print the whole table: python -m benchmarks (about ten minutes on two cores)."""

from rich.console import Console
from rich.table import Table

from benchmarks import memory, norms, pretraining, reading, views


def main() -> None:
    table = Table("what", "ratio", "at least", "measured", box=None)
    for module in (reading, pretraining, norms, memory, views):
        for row in module.rows():
            table.add_row(row["name"], f"{row['ratio']:.1f}", f"{row['target'] or '':}", row["detail"])
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
