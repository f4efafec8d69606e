"""Write files so that a kill never leaves half of one, and keep other processes out of a folder."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gcl_custom.errors import Busy, UserError


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``. On success the file takes the name ``path``; on failure it is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def discard(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that a kill leaves nothing that looks complete."""
    trash = folder.with_name(f".{folder.name}.trash")
    shutil.rmtree(trash, ignore_errors=True)
    os.replace(folder, trash)
    if trash.is_symlink():  # another run lent the folder and keeps it
        trash.unlink()
    else:
        shutil.rmtree(trash)


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
