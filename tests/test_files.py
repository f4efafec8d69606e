import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest

from gcl_custom import files
from gcl_custom.errors import Busy, UserError
from gcl_custom.files import locked, require_free, write_atomically


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as part:
        part.write_text(f"half {1 / 0}")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with locked(path):
        ready.set()
        done.wait(20)


def test_two_processes_never_share_a_run_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "r", ready, done))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(Busy, match=r"Another process is working in .*, or use --run NEW_NAME"), locked(tmp_path / "r"):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path / "r"):
        pass


def test_a_place_is_free_if_nothing_is_there_or_it_may_be_replaced_by_its_like(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    require_free(tmp_path / "new" / "deeper" / "file", overwrite=False)
    assert (tmp_path / "new" / "deeper").is_dir()
    for path, is_folder in ((file, False), (folder, True)):
        require_free(path, overwrite=True, folder=is_folder)
        with pytest.raises(UserError, match="--overwrite"):
            require_free(path, overwrite=False, folder=is_folder)
        with pytest.raises(UserError, match=r"is a (file|folder), and a"):
            require_free(path, overwrite=True, folder=not is_folder)
    with pytest.raises(UserError, match="folder cannot be made"):
        require_free(file / "inside", overwrite=False)


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert files.file_digest(tmp_path / "f") == files.bytes_digest(content)
    assert files.bytes_digest(content) == hashlib.blake2b(content, digest_size=16).hexdigest()
    assert files.bytes_digest(content[1:]) != files.bytes_digest(content)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("values", [[], ["x"], [["a", 1], None, 2.5, "é", [], {"b": []}]])
@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_digest_part_by_part_is_that_of_the_whole(
    of: int, values: list, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "JOINED", 3)
    columns = [[f"{n} [,] {column}" for n in range(count)] for column in range(of)]
    text = json.dumps([*columns, *values])
    assert (
        files.json_digest([iter(column) for column in columns], iter(values))
        == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    )
