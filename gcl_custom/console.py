"""What a person sees while a stage runs: bars in a terminal, lines in a log. Only the first rank prints.

Names of files, classes and runs come from elsewhere. So nothing is read as markup or as an emoji, and control
characters, which a terminal would obey, are shown as what they are.
"""

import os
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""


def is_first_rank() -> bool:
    """Whether this process prints and writes: it is the only one, or the first of several."""
    ranks = [os.environ.get(name, "") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")]
    return not any(rank.isdecimal() and int(rank) for rank in ranks)


HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of Unicode that are not printed: control characters, halves of pairs, separators of lines."""


def plain(text: str) -> str:
    r"""The text with control characters as \x1b and the like; newlines and tabs stay."""
    if text.isprintable():
        return text
    hidden = (unicodedata.category(character) in HIDDEN and character not in "\n\t" for character in text)
    return "".join(c.encode("unicode_escape").decode() if hide else c for c, hide in zip(text, hidden, strict=True))


class _Plain(Console):
    """Shows each text as it stands, in cells of tables as well."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)


console = _Plain(quiet=not is_first_rank(), highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Print a line as it stands."""
    console.print(Text(plain(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print something that the reader should look at."""
    _titled("warning", "yellow", text)


def fail(text: str) -> None:
    """Print why a command ends."""
    _titled("error", "red", text)


def _titled(title: str, colour: str, text: str) -> None:
    console.print(Text.assemble((f"{title}:", colour), " ", plain(text)), soft_wrap=True)


@runtime_checkable
class Ticker(Protocol):
    """Counts what has been done."""

    def advance(self, n: int = 1) -> None: ...

    def skip(self, n: int) -> None:
        """Count what an earlier process did, without including it in the rate."""

    def limit(self, total: int) -> None:
        """Set how much there is to do, where it has become less."""

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

    def limit(self, total: int) -> None:
        self._bar.update(self._task, total=total)

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

    def limit(self, total: int) -> None:
        self._total = total

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
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
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


LEAST_ROUNDED_UP = 999.5
"""With three digits this is 1,000, which ``g`` writes as 1e+03."""


def in_bytes(count: int) -> str:
    """A number of bytes, for a reader."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < LEAST_ROUNDED_UP or unit == "GB":
            break
        size /= 1000
    return f"{size:,.3g} {unit}" if size < LEAST_ROUNDED_UP else f"{size:,.0f} {unit}"
