"""Faults of the machine: a full disk, a folder that cannot be written to, too little memory. Each becomes one message.

A library may hide what the system said behind an error of its own. ``writing`` brings it to light again, with the path
and, where it is known, the size of what was to be written.
"""

import errno
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcl_custom.console import in_bytes
from gcl_custom.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota on the disk is used up",
    errno.EFBIG: "it is larger than a file may be here (see: ulimit -f)",
    errno.EROFS: "its disk cannot be written to",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk does not work as it should (input/output error)",
    errno.EMFILE: "too many files are open (see: ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ESTALE: "its disk was taken away or replaced",
}
"""What the system says, by its number, in words for a user. Other errors of files may be mistakes of ours."""
REMEDIES = {
    errno.EFBIG: "Raise that limit, or choose another place (--runs, --out)",
    errno.EACCES: "Change its permissions, or choose another place (--runs, --out)",
    errno.EPERM: "Change its permissions, or choose another place (--runs, --out)",
    errno.ENAMETOOLONG: "Choose a shorter one",
    errno.EMFILE: "Raise that limit",
    errno.ENFILE: "End other programs",
    errno.EROFS: "Choose another place (--runs, --out)",
    errno.ENOTDIR: "Choose another place (--runs, --out)",
}
KEPT = "What is finished stays: the same command goes on from there"
OF_RUST = re.compile(r"os error (\d+)")
"""What a library in Rust, such as safetensors, tells of an error of the system."""
PROBE = bytes(2**20)
MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate", "invalid buffer size")
"""Parts of what torch and numpy say where memory is too short."""


@contextmanager
def writing(path: Path, part: Path | None = None, size: int = 0) -> Iterator[None]:
    """Whatever fails within because of the disk is an OSError that names the path.

    Args:
        path: file or folder that is written.
        part: the file that is written in its place, if there is one.
        size: bytes that are needed for it, about; 0 if that is not known.

    Raises:
        OSError: the system could not write. Its notes say what was needed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        fault = _fault(error, part)
        if fault is None or (fault.filename is not None and str(fault.filename) not in (str(part), str(path))):
            raise
        named = OSError(fault.errno, fault.strerror, str(path))
        for note in [f"it needs {in_bytes(size)}"] if size else getattr(fault, "__notes__", ()):
            named.add_note(note)
        raise named from error


@contextmanager
def unheard_threads() -> Iterator[None]:
    """A thread that fails because of the disk prints no traceback.

    TensorBoard writes in a thread, whose error is raised again where the next line is written, or the file is closed.
    """
    before = threading.excepthook

    def hear(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is None or explained(failed.exc_value) is None:
            before(failed)

    threading.excepthook = hear
    try:
        yield
    finally:
        threading.excepthook = before


def _fault(error: Exception, part: Path | None) -> OSError | None:
    """What the system said, behind an error or, where a library has swallowed it, asked again."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in REASONS:
            return behind
        if (code := OF_RUST.search(str(behind))) and int(code[1]) in REASONS:
            return OSError(int(code[1]), os.strerror(int(code[1])))
        behind = behind.__cause__ or behind.__context__
    if part is None or not part.is_file():
        return None
    try:
        with part.open("ab") as file:  # it is thrown away in any case
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        return found
    return None


def explained(error: BaseException) -> str | None:
    """The message for a fault of the machine; None for any other error, which may be a mistake of ours."""
    if isinstance(error, OSError):
        return _of_files(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(part in text for part in MEMORY)):
        return (
            "There is not enough memory for this. Lower the batch, the size of tiles or of networks in the recipe, or "
            f"end other programs. gcl-custom check says what a recipe takes. {KEPT}"
        )
    return None


def _of_files(error: OSError) -> str | None:
    if "temporary directory" in str(error):
        return (
            f"There is no folder for temporary files that can be written to ({error.strerror}). Make room in one of "
            f"them, or name another: export TMPDIR=FOLDER. {KEPT}"
        )
    if error.errno not in REASONS:
        return None
    where = f"{error.filename}: " if error.filename else ""
    reason = REASONS[error.errno]
    remedy = REMEDIES.get(error.errno, "Make room, or choose another place (--runs, --out)")
    if error.errno in FULL and error.filename:
        reason += _room(Path(error.filename))
        if _is_temporary(Path(error.filename)):
            remedy = "Make room, or name another folder for temporary files: export TMPDIR=FOLDER"
    needs = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    kept = "" if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR) else f". {KEPT}"  # where nothing has begun
    return f"{where}{reason}{needs}. {remedy}{kept}"


def _room(path: Path) -> str:
    """How much room there is where a path was to be written, and whether it is files that there are too many of."""
    place = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    if found.f_files and not found.f_favail:
        return f", since it holds as many files as it can ({in_bytes(free)} free, but no inode)"
    return f" ({in_bytes(free)} free)"


def _is_temporary(path: Path) -> bool:
    """Whether a library put this file into the folder for temporary files."""
    try:
        return path.parent == Path(tempfile.gettempdir()) or path.parent.name.startswith("pymp-")
    except FileNotFoundError:
        return True
