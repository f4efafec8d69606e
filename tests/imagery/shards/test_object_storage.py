from collections.abc import Callable
from pathlib import Path

import pytest

from gcl_custom.errors import UserError
from gcl_custom.files import bytes_digest
from gcl_custom.imagery.shards import object_storage
from gcl_custom.imagery.shards.object_storage import ObjectStorage


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited each time."""
    waited: list[float] = []
    monkeypatch.setattr(object_storage.time, "sleep", waited.append)
    return waited


def failing(storage: ObjectStorage, method: str, errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next calls of a method of its file system end in these errors."""
    real: Callable[..., object] = getattr(storage._files, method)

    def call(*arguments: object) -> object:
        if errors:
            raise errors.pop(0)
        return real(*arguments)

    monkeypatch.setattr(storage._files, method, call)


def test_what_is_written_is_read_and_fetched(tmp_path: Path) -> None:
    storage = ObjectStorage(f"file://{tmp_path}/new/folder/", 0)
    assert storage.address == f"file://{tmp_path}/new/folder"
    assert storage.size("a/b.bin") is None
    storage.write("a/b.bin", b"content")
    assert (storage.read("a/b.bin"), storage.size("a/b.bin")) == (b"content", 7)
    assert (tmp_path / "new/folder/a/b.bin").read_bytes() == b"content"
    storage.write("a/c.bin", b"more")
    assert (storage.sizes("a"), storage.sizes("none")) == ({"a/b.bin": 7, "a/c.bin": 4}, {})
    storage.fetch("a/b.bin", bytes_digest(b"content"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


def test_a_lost_connection_is_tried_again_after_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ObjectStorage(f"file://{tmp_path}", 8)
    storage.write("a", b"content")
    lost: list[Exception] = [ConnectionResetError("reset"), TimeoutError(), RuntimeError("of a library"), OSError("?")]
    failing(storage, "cat_file", lost, monkeypatch)
    assert storage.read("a") == b"content"
    assert pauses == [0.5, 1, 2, 4]
    said = capsys.readouterr()
    assert f"{storage.address}/a: reset. Trying again in 0.5 s" in (said.out + said.err).replace("\n", "")
    failing(storage, "cat_file", [ConnectionResetError("reset")] * 9, monkeypatch)
    with pytest.raises(UserError, match=r"/a cannot be had in 9 attempts \(reset\)\. .* type the same command again"):
        storage.read("a")
    assert pauses[4:] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_damaged_download_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    storage = ObjectStorage(f"file://{tmp_path}", 2)
    storage.write("a", b"content")
    real, damages = storage._files.get_file, [b"conte", b"c0ntent"]

    def get(path: str, to: str) -> None:
        real(path, to)
        if damages:
            Path(to).write_bytes(damages.pop())

    monkeypatch.setattr(storage._files, "get_file", get)
    storage.fetch("a", bytes_digest(b"content"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert len(pauses) == 2
    with pytest.raises(UserError, match=r"in 3 attempts \(what came has the digest"):
        storage.fetch("a", bytes_digest(b"other"), tmp_path / "copy")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("a"), "/a is not there. Check the address"),
        (PermissionError("Forbidden"), r"/a: access is denied \(Forbidden\)\. Keys come from"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"), "access is denied"),
    ],
)  # fmt: skip
def test_what_no_further_attempt_mends_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float], error: Exception, message: str
) -> None:
    storage = ObjectStorage(f"file://{tmp_path}", 8)
    failing(storage, "cat_file", [error], monkeypatch)
    with pytest.raises(UserError, match=message):
        storage.read("a")
    assert pauses == []


def test_a_full_disk_of_this_machine_is_no_lost_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    storage = ObjectStorage(f"file://{tmp_path}", 8)
    failing(storage, "get_file", [OSError(28, "No space left on device", "copy")], monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        storage.fetch("a", "", tmp_path / "copy")
    assert pauses == []


def test_an_address_that_nothing_opens_says_what_to_install() -> None:
    with pytest.raises(UserError, match=r"nosuch://bucket/a cannot be opened: .*pip install 'gcl-custom\[object-stor"):
        ObjectStorage("nosuch://bucket/a", 0)
