import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gcl_custom.imagery.shards.shard_cache import KILLED, ShardCache


def writing(content: bytes, fetched: list[bytes] | None = None, pause: float = 0.0) -> Callable[[Path], None]:
    def fetch(part: Path) -> None:
        time.sleep(pause)
        part.write_bytes(content)
        if fetched is not None:
            fetched.append(content)

    return fetch


def never(part: Path) -> None:
    raise AssertionError("it is there")


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.bin")}


def test_a_shard_is_fetched_once(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "new" / "cache", 100)
    path = cache.path("a", 10, writing(b"a" * 10))
    assert path.read_bytes() == b"a" * 10
    assert ShardCache(tmp_path / "new" / "cache", 100).path("a", 10, never) == path


def test_the_shards_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 30)
    for number, name in enumerate("abc"):
        os.utime(cache.path(name, 10, writing(bytes(10))), (number, number))
    mapped = (tmp_path / "b.bin").open("rb")
    cache.path("a", 10, never)
    cache.path("d", 10, writing(bytes(10)))
    assert names(tmp_path) == {"a", "c", "d"}
    assert mapped.read() == bytes(10), "whoever has it open goes on"
    mapped.close()
    cache.path("e", 25, writing(bytes(25)))
    assert names(tmp_path) == {"e"}
    cache.path("larger than all", 40, writing(bytes(40)))
    assert names(tmp_path) == {"larger than all"}


def test_processes_that_ask_at_the_same_time_share_one_download(tmp_path: Path) -> None:
    fetched: list[bytes] = []

    def ask(_: int) -> bytes:
        return ShardCache(tmp_path, 100).path("a", 1, writing(b"a", fetched, pause=0.05)).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"a"}
    assert fetched == [b"a"]


def test_shards_that_are_fetched_at_the_same_time_have_room_together(tmp_path: Path) -> None:
    """Each of two begins before the other one has written anything, as in two processes."""
    for number, name in enumerate("abc"):
        os.utime(ShardCache(tmp_path, 30).path(name, 10, writing(bytes(10))), (number, number))
    both = Barrier(2)

    def ask(name: str, size: int) -> None:
        def fetch(part: Path) -> None:
            both.wait(10)
            part.write_bytes(bytes(size))

        ShardCache(tmp_path, 30).path(name, size, fetch)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, "de", (10, 5)))
    assert names(tmp_path) == {"c", "d", "e"}


def test_a_download_that_failed_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    def broken(part: Path) -> None:
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    cache = ShardCache(tmp_path, 100)
    with pytest.raises(KeyboardInterrupt):
        cache.path("a", 10, broken)
    assert not list(tmp_path.glob("*a*"))
    assert cache.path("a", 10, writing(b"whole")).read_bytes() == b"whole"


def test_what_a_killed_process_left_goes_and_what_another_is_writing_stays(tmp_path: Path) -> None:
    cache, now = ShardCache(tmp_path, 30), time.time()
    for name, age in (("old", KILLED + 60), ("new", 1)):
        part = tmp_path / f".{name}.bin.part"
        part.write_bytes(bytes(20))
        os.utime(part, (now - age, now - age))
    cache.path("a", 15, writing(bytes(15)))
    assert {path.name for path in tmp_path.glob(".*.part")} == {".new.bin.part"}
