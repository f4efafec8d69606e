"""Shards that were fetched from object storage, in a folder of bounded size that the processes of a machine share.

A shard's file has its digest as its name, so stores that share shards share them here. It gets that name once it is
whole. A file that another process has mapped may be removed: the mapping stays valid.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from gcl_custom.files import write_atomically
from gcl_custom.machine_faults import writing

LOCKS, ROOM = ".locks", "room"
KILLED = 3600.0
"""Seconds after which a part of a shard that does not grow was left by a process that was killed."""


class ShardCache:
    """Fetched shards.

    Args:
        folder: made if it is not there.
        most: bytes that it may hold. A single shard larger than that is kept until the next one comes.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder.expanduser(), most

    def path(self, digest: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """Where a shard lies, which counts as used now. If several processes ask, one fetches it.

        Args:
            size: bytes of the shard.
            fetch: writes it into the file that it is given.

        Raises:
            OSError: the folder cannot be written to.
        """
        path, locks = self._folder / f"{digest}.bin", self._folder / LOCKS
        with writing(self._folder):
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / digest):
                if not path.is_file():
                    with write_atomically(path, size) as part:
                        self._make_room(size, part)
                        fetch(part)
                with suppress(FileNotFoundError):  # another process has just made room; the caller asks again
                    os.utime(path)
        return path

    def _make_room(self, size: int, part: Path) -> None:
        """Remove shards, those that were used last stay, until one of this size fits in, and begin its file.

        A shard that others fetch meanwhile counts as one of the largest here: its file is still growing.
        """
        with FileLock(self._folder / LOCKS / ROOM):
            found, largest = [], size
            for path in self._folder.iterdir():
                with suppress(FileNotFoundError):
                    if path.suffix in (".bin", ".part") and path != part:
                        found.append((path.stat().st_mtime, path.stat().st_size, path))
                        largest = max(largest, found[-1][1])
            left, killed = self._most - size, time.time() - KILLED
            for used, taken, path in sorted(found, reverse=True):
                left -= largest if path.suffix == ".part" else taken
                if left < 0 and (path.suffix == ".bin" or used < killed):
                    path.unlink(missing_ok=True)
            part.touch()
