"""Blocks and commands of the pages, README.md and docs/*.md.

A fence of ``bash`` holds commands, one a line, and is run; in a fence of ``console`` the commands stand behind ``$``,
among their output. A fence of ``python`` is run, and one of ``yaml`` is read as a card or as a part of a recipe. The
comment ``<!-- not run: REASON -->`` right above a fence keeps it from being run: for what needs a download, a GPU,
hours, or imagery that is not here. Its commands, and those in running text, are only parsed.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"]\(([^)#:]+)(?:#[^)]*)?\)")
MARK = re.compile(r"<!-- not run: .+ -->\n$")
LOOSE = re.compile(r"`(gcl-custom\s[^`]+)`|^ {4}(gcl-custom\s.+)$", re.MULTILINE)
VARIABLE = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True)
class Block:
    """A fence of a page."""

    place: str
    """PAGE:LINE of its first line."""
    language: str
    text: str
    runs: bool

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and without variables of the shell before it."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [words for line in lines if (words := _words(line))]


def blocks(page: Path) -> Iterator[Block]:
    """All fences of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        runs = not MARK.search(text[: found.start()])
        yield Block(f"{page.relative_to(ROOT)}:{line}", found[1], found[2], runs)


def python_holding(page: str, words: str) -> str:
    """The one fence of python in a page of docs/ that holds these words."""
    (found,) = [
        block.text for block in blocks(ROOT / "docs" / page) if block.language == "python" and words in block.text
    ]
    return found


def loose_commands(page: Path) -> list[list[str]]:
    """The words of each command of ours in running text, or indented."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [_words(" ".join((found[1] or found[2]).split())) for found in LOOSE.finditer(text)]


def linked_files(page: Path) -> list[Path]:
    """The files of this repository that a page links to."""
    return [page.parent / found for found in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))]


def _words(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    while words and VARIABLE.fullmatch(words[0]):
        words.pop(0)
    return words
