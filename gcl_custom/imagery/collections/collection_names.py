"""Names of collections: how their files end, and patterns with braces. Nothing is opened, nothing heavy imported."""

import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from gcl_custom.errors import UserError

ZIP, TAR, TAR_GZ = (".zip",), (".tar",), (".tar.gz", ".tgz")
PARQUET = (".parquet",)
NPZ, NPY = (".npz",), (".npy",)
ARCHIVES = (*ZIP, *TAR, *TAR_GZ)
SUFFIXES = (*ARCHIVES, *PARQUET, *NPZ, *NPY)
OTHER_FORMS = (
    ".tar.bz2",
    ".tar.xz",
    ".tar.zst",
    ".7z",
    ".rar",
    ".arrow",
    ".h5",
    ".hdf5",
    ".pkl",
    ".pt",
    ".mat",
    ".tfrecord",
)
"""Ends of files that hold many tiles as well, and that are not read."""
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST_FILES = 100_000
"""Most files that a pattern may stand for."""


def is_pattern(root: str | os.PathLike[str]) -> bool:
    """Whether a root stands for several files: there is no file of that name, and it has braces."""
    return BRACES.search(os.fspath(root)) is not None and not os.path.lexists(root)


def is_there(root: Path) -> bool:
    """Whether there is a folder, a file, or files of a pattern."""
    return root.exists() or is_pattern(root)


def may_be_collection(given: str | os.PathLike[str]) -> bool:
    """Whether what a command was given is a collection rather than a recipe: a pattern, or a file by its name."""
    text = os.fspath(given)
    return is_pattern(text) or (text.lower().endswith((*SUFFIXES, *OTHER_FORMS)) and os.path.isfile(text))


def expanded(pattern: str) -> list[str]:
    """The files that a pattern with braces stands for: {000..009} are numbers, {train,val} are choices.

    Raises:
        UserError: they are too many.
    """
    fixed = BRACES.split(pattern)
    choices = [list(_choices(part)) if number % 2 else [part] for number, part in enumerate(fixed)]
    count = 1
    for each in choices:
        count *= len(each)
    if count > MOST_FILES:
        raise UserError(f"data.root: {pattern} stands for more than {MOST_FILES:,} files")
    return ["".join(parts) for parts in product(*choices)]


def _choices(inside: str) -> Iterator[str]:
    for part in inside.split(","):
        if found := RANGE.fullmatch(part):
            first, last = int(found[1]), int(found[2])
            if last - first > MOST_FILES:
                raise UserError(f"data.root: {{{inside}}} stands for more than {MOST_FILES:,} files")
            yield from (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
        else:
            yield part


def before_braces(root: Path) -> Iterator[str]:
    """The folders of a pattern above the first that differs between its files."""
    for part in root.parts[:-1]:
        if BRACES.search(part):
            return
        yield part
