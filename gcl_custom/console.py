"""What a person sees while a stage runs: bars in a terminal, lines in a log. Only the first rank prints."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""


def is_first_rank() -> bool:
    """Whether this process prints and writes: it is the only one, or the first of several."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


console = Console(quiet=not is_first_rank(), highlight=False)


def say(text: str) -> None:
    """Print a line as it stands, without reading it as markup."""
    console.print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print something that the reader should look at."""
    console.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


@runtime_checkable
class Ticker(Protocol):
    """Counts what has been done."""

    def advance(self, n: int = 1) -> None: ...

    def skip(self, n: int) -> None:
        """Count what an earlier process did, without including it in the rate."""

    def note(self, text: str) -> None: ...


class _Bar:
    def __init__(self, bar: Progress, task: TaskID, unit: str) -> None:
        self._bar, self._task, self._unit = bar, task, unit
        self._done, self._start = 0, time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        self._bar.update(self._task, advance=n, rate=f"{rate:,.4g} {self._unit}/s")

    def skip(self, n: int) -> None:
        self._bar.update(self._task, advance=n)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)


class _Lines:
    def __init__(self, total: int, what: str, unit: str) -> None:
        self._total, self._what, self._unit, self._note = total, what, unit, ""
        self._done, self._skipped, self._start, self._said = 0, 0, time.monotonic(), time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said >= PLAIN_EVERY:
            self._said = now
            rate = self._done / (now - self._start)
            done = self._skipped + self._done
            left = duration((self._total - done) / rate)
            say(f"{self._what}: {done}/{self._total} {self._unit}, {rate:,.4g}/s, {left} left  {self._note}")

    def skip(self, n: int) -> None:
        self._skipped += n

    def note(self, text: str) -> None:
        self._note = text


@contextmanager
def progress(total: int, what: str, unit: str = "tiles") -> Iterator[Ticker]:
    """Show the progress of ``what``, its rate, and the time left."""
    if not console.is_terminal:
        yield _Lines(total, what, unit)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        yield _Bar(bar, bar.add_task(what, total=total, rate="", note=""), unit)


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
