"""Faults of the machine, made for real where that is possible: limits of the size of files, and a small disk."""

import errno
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disks import full, limited, small_disk
from safetensors.torch import save_file

from gcl_custom.arrays import new_array, read_array
from gcl_custom.errors import UserError
from gcl_custom.files import damaged, locked, read_json, write_atomically, write_json
from gcl_custom.machine_faults import REASONS, explained, unheard_threads, writing


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24) as place:
        yield place


BIG = torch.zeros(100_000)


def by_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, BIG.numpy())


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(400_000)),
    "numpy": by_numpy,
    "a memory map": lambda path: new_array(path, np.float32, (100_000,)),
    "torch": lambda path: torch.save({"a": BIG}, path),
    "safetensors": lambda path: save_file({"a": BIG}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_library_says_of_a_full_disk_is_brought_to_light(tmp_path: Path, disk: Path, writer: str) -> None:
    for place, fault, number in ((tmp_path, limited(50_000), errno.EFBIG), (disk, full(disk, 50_000), errno.ENOSPC)):
        path = place / "weights"
        path.write_text("before")
        error = pytest.raises(OSError, match=re.escape(str(path)))
        with fault, error as caught, write_atomically(path, 400_000) as part:
            WRITERS[writer](part)
        assert caught.value.errno == number
        message = explained(caught.value) or ""
        assert message.startswith(f"{path}: {REASONS[number]}")
        assert "it needs 400 kB. " in message
        assert path.read_text() == "before"
        assert [file.name for file in place.iterdir() if file.is_file()] == ["weights"]


def test_an_error_that_is_none_of_the_disk_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write_atomically(tmp_path / "a") as part:
        part.write_text(f"{1 / 0}")
    with pytest.raises(UserError, match="mine"), writing(tmp_path):
        raise UserError("mine")
    with pytest.raises(FileNotFoundError, match="other"), write_atomically(tmp_path / "a"):
        (tmp_path / "other").read_text()
    assert not list(tmp_path.iterdir())
    assert explained(ZeroDivisionError()) is None
    assert explained(FileNotFoundError(errno.ENOENT, "no such file", "x")) is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x", "/folder/a"), r"^/folder/a: the disk is full \(.* free\)\. Make room, or"),
        (OSError(errno.EDQUOT, "x", "/folder/a"), "your quota on the disk is used up .*Make room"),
        (OSError(errno.EROFS, "x", "/folder/a"), "^/folder/a: its disk cannot be written to. Choose another place"),
        (PermissionError(errno.EACCES, "x", "/a/.lock"), "^/a/.lock: permission denied. Change its permissions, or"),
        (OSError(errno.ENAMETOOLONG, "x", "/a"), "^/a: the name is too long. Choose a shorter one"),
        (OSError(errno.ENOSPC, "x"), "^the disk is full. Make room"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "export TMPDIR=FOLDER"),
        (MemoryError(), "^There is not enough memory.*Lower the batch"),
        (torch.OutOfMemoryError("CUDA out of memory"), "^There is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "^There is not enough memory"),
    ],
)  # fmt: skip
def test_each_fault_is_explained_with_a_remedy(error: Exception, message: str) -> None:
    said = explained(error) or ""
    assert re.search(message, said), said
    begun = getattr(error, "errno", None) != errno.ENAMETOOLONG
    assert said.endswith("the same command goes on from there") is begun


def test_a_disk_without_room_for_another_file_says_so(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=4", disk], check=True)
    for number in range(3):
        (disk / f"{number}").touch()
    with pytest.raises(OSError, match="No space") as caught:
        write_json(disk / "a.json", {})
    assert "it holds as many files as it can" in (explained(caught.value) or "")


def test_a_disk_that_cannot_be_written_to_says_so(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OSError, match="Read-only") as caught, locked(disk / "runs"):
        pass
    assert "its disk cannot be written to. Choose another place (--runs, --out)" in (explained(caught.value) or "")


def test_a_file_of_a_temporary_folder_names_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "export TMPDIR" in (explained(OSError(errno.ENOSPC, "x", str(tmp_path / "tmpabc"))) or "")


def test_a_damaged_file_says_what_to_remove(tmp_path: Path) -> None:
    for text in ("", "{", "[" * 100_000, "\udcff"):
        (tmp_path / "stage").mkdir(exist_ok=True)
        path = tmp_path / "stage" / "stage.json"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(
            UserError, match=rf"^{path} is damaged.*Remove the folder {path.parent}, then type the same"
        ):
            read_json(path)
    (tmp_path / "recipe.yaml").touch()
    assert f"type: gcl-custom make-views --run {tmp_path.name}" in str(
        damaged(path, ValueError(), "gcl-custom make-views")
    )
    assert "Remove it, then" in str(damaged(tmp_path / "weights.json", ValueError("x")))
    (tmp_path / "stage" / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="gcl-custom make-views --run"):
        read_array(tmp_path / "stage" / "a.npy", "gcl-custom make-views")


def test_a_thread_that_finds_a_full_disk_prints_nothing() -> None:
    heard = list[type[BaseException]]()
    before, threading.excepthook = threading.excepthook, lambda failed: heard.append(failed.exc_type)
    try:
        with unheard_threads():
            for error in (OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError()):
                thread = threading.Thread(target=raising, args=(error,))
                thread.start()
                thread.join()
        assert heard == [ZeroDivisionError]
    finally:
        threading.excepthook = before


def raising(error: Exception) -> None:
    raise error
