"""Write files so that a kill never leaves half of one, and keep other processes out of a folder."""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gcl_custom.errors import Busy, UserError
from gcl_custom.machine_faults import writing


@contextmanager
def write_atomically(path: Path, size: int = 0) -> Iterator[Path]:
    """Give a temporary path beside ``path``. On success the file takes the name ``path``; on failure it is removed.

    Args:
        size: bytes that the file will have, about, for the message if there is no room; 0 if that is not known.

    Raises:
        OSError: it cannot be written. The error names ``path``, whatever library was writing.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path, part, size):
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with suppress(OSError):  # of a disk that cannot be written to; the first error is the one to show
            part.unlink(missing_ok=True)


def reserve(path: Path) -> None:
    """Take room on the disk for all of a file whose length is set.

    A file that is written through a memory map has no room of its own at first. If the disk then fills up, the system
    ends the process without a message.

    Raises:
        OSError: there is not enough room; the file is removed.
    """
    size = path.stat().st_size
    try:
        with writing(path, size=size), path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS
                for start in range(0, size, len(_ZEROS)):
                    file.write(_ZEROS[: size - start])
    except OSError:
        path.unlink(missing_ok=True)
        raise


_ZEROS = bytes(2**20)


def require_free(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Check the place of an output before any work is done, and make its parent folder.

    Args:
        overwrite: whether an output that exists may be replaced.
        folder: whether the output is a folder.

    Raises:
        UserError: something is there that must not or cannot be replaced, or the parent cannot be made.
    """
    if path.exists() and path.is_dir() != folder:
        kinds = ("file", "folder") if folder else ("folder", "file")
        raise UserError(f"{path} is a {kinds[0]}, and a {kinds[1]} is to be written. Give another --out")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already. Add --overwrite to replace it, or give another --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: its folder cannot be made ({error.strerror}). Give another --out") from None


DIGEST_SIZE = 16
"""Bytes of a digest."""


def bytes_digest(content: bytes) -> str:
    """The digest by which the project knows a content."""
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE).hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file's content, which is never whole in memory.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=DIGEST_SIZE)).hexdigest()


JOINED = 1024
"""Values that are JSON at a time in a digest."""


def json_digest(columns: Sequence[Iterable[object]], values: Iterable[object] = ()) -> str:
    """The digest of ``json.dumps([*map(list, columns), *values])``, whose text is never whole in memory."""

    def parts(some: Iterable[object]) -> Iterator[str]:
        left, lead = iter(some), ""
        while taken := list(islice(left, JOINED)):
            yield lead + json.dumps(taken)[1:-1]
            lead = ", "

    wholes: list[Iterable[str]] = [chain("[", parts(column), "]") for column in columns]
    found, lead = hashlib.blake2b(b"[", digest_size=DIGEST_SIZE), ""
    for whole in [*wholes, parts(values)]:
        for part in whole:
            found.update((lead + part).encode())
            lead = ""
        lead = ", "
    found.update(b"]")
    return found.hexdigest()


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    with write_atomically(path, len(content)) as part:
        part.write_bytes(content)


def read_json(path: Path, remedy: str = "") -> Any:
    """The content of a JSON file of ours.

    Args:
        remedy: the command that makes it again; see ``damaged``.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from None


UNREADABLE = (
    OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
"""What torch raises for a file that is truncated, or no file of its kind."""


def in_run(folder: Path) -> bool:
    """Whether a stage's folder lies in that of a run, whose name ``--run`` takes."""
    return (folder.parent / "recipe.yaml").is_file()


def damaged(path: Path, error: Exception, remedy: str = "") -> UserError:
    """The error for a file of a run that cannot be read, with what to remove so that it is made again.

    Args:
        remedy: the command that makes the file's stage, without the name of the run; by default the one just typed.
    """
    folder = path.parent
    is_run = (folder / "recipe.yaml").is_file()
    remedy = (
        f"type: {remedy} --run {folder.parent.name}" if remedy and in_run(folder) else "type the same command again"
    )
    why = re.split(r"[.:]\s|\n", str(error).strip())[0].rstrip(".:")[:150] or type(error).__name__
    return UserError(
        f"{path} is damaged or was changed: {why}. Remove {'it' if is_run else f'the folder {folder}'}, then {remedy}: "
        f"it is made anew, and other stages stay"
    )


def discard(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that a kill leaves nothing that looks complete."""
    trash = folder.with_name(f".{folder.name}.trash")
    _remove(trash, ignore_errors=True)
    os.replace(folder, trash)
    _remove(trash)


def _remove(folder: Path, ignore_errors: bool = False) -> None:
    if folder.is_symlink():  # another run lent the folder and keeps it
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors)


@contextmanager
def locked(folder: Path, wait: bool = False, otherwise: str = "use --run NEW_NAME") -> Iterator[None]:
    """Keep other processes out of a folder. The lock ends with the process, however that ends.

    Args:
        wait: wait for another process that holds the lock.
        otherwise: what a user can do other than wait, for the message.

    Raises:
        Busy: another process holds the lock, and ``wait`` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / ".lock").acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise Busy(f"Another process is working in {folder}. Wait for it, or {otherwise}") from None
    with held:
        yield
