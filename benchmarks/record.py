"""What a benchmark found, and where it is kept: ``benchmarks/results/NAME.json``, with what it takes to judge it.

A file states the date, the commit, the processor, the versions, the threads, and the load of the machine before the
benchmark. The table that is printed, and the one in docs/speed.md, are made of these files.
"""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch

from gcl_custom.training.devices import processor

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy")
HEADS = ("what", "measured", "goal", "how", "when and where")


class Row(TypedDict):
    """A figure of a benchmark."""

    name: str
    ratio: float
    """Times a peer's speed, or a figure of another unit."""
    target: float | None
    """The goal; None where there is none."""
    detail: str
    unit: NotRequired[str]
    """Of the figure; times without it."""
    most: NotRequired[bool]
    """Whether the goal is the largest good figure; otherwise it is the smallest."""


class Kept(TypedDict):
    """The content of a file."""

    benchmark: str
    command: str
    date: str
    commit: str
    processor: str
    cores: int
    threads: int
    load: float
    """Running processes, mean over the minute before."""
    versions: dict[str, str]
    rows: list[Row]


def measure(name: str, rows: Callable[[], Sequence[Any]], folder: Path = RESULTS) -> Kept:
    """Take the rows of a benchmark and keep them."""
    load = os.getloadavg()[0]
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True).stdout
    kept = Kept(
        benchmark=name,
        command=f"python -m benchmarks {name}",
        date=datetime.now(UTC).date().isoformat(),
        commit=commit.strip(),
        processor=processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load=round(load, 1),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        rows=list(rows()),
    )
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return kept


def read(folder: Path = RESULTS) -> list[Kept]:
    """All that is kept, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def cells(kept: Kept) -> Iterable[tuple[str, ...]]:
    """The cells of each row, under ``HEADS``."""
    where = (
        f"{kept['date']}, {kept['processor']}, {kept['threads']} of {kept['cores']} threads, load {kept['load']:.1f}; "
        f"{kept['command']}"
    )
    for row in kept["rows"]:
        unit = row.get("unit", "times")
        goal = "" if row["target"] is None else f"{'most' if row.get('most') else 'least'} {row['target']:g}"
        yield row["name"], f"{row['ratio']:.3g} {unit}", goal and f"at {goal}", row["detail"], where


def as_markdown(found: Iterable[Kept]) -> str:
    """The table for a page."""
    lines = [HEADS, tuple("---" for _ in HEADS), *(row for kept in found for row in cells(kept))]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
