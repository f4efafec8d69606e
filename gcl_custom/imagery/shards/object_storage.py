"""Files in object storage, through fsspec. If the connection breaks, there are new attempts, and then one message."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gcl_custom.console import warn
from gcl_custom.errors import UserError
from gcl_custom.files import file_digest
from gcl_custom.machine_faults import explained

PAUSES = (0.5, 30.0)
"""Seconds before the second attempt, and the most before a later one. Each pause is twice the one before."""
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}},  # ours are the attempts
    "file": {"auto_mkdir": True},
}
"""Protocol -> what its file system is opened with. Keys and servers come from the environment."""
Found = TypeVar("Found")


class ObjectStorage:
    """A folder in object storage, or wherever else fsspec reads and writes.

    Args:
        address: as fsspec writes it.
        retries: attempts after one that failed.

    Raises:
        UserError: nothing here opens such addresses.
    """

    def __init__(self, address: str, retries: int) -> None:
        from fsspec.core import url_to_fs  # here, since it takes long, and most runs need none

        self.address, self._retries = address.rstrip("/"), retries
        options = OPTIONS.get(self.address.partition("://")[0], {})
        try:
            self._files, self._root = url_to_fs(self.address, use_listings_cache=False, **options)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.address} cannot be opened: {error}. For s3:// type: pip install "
                f"'gcl-custom[object-storage]'. For others install the package that fsspec names"
            ) from None
        if hasattr(self._files, "retries"):
            self._files.retries = 1  # s3fs and gcsfs have attempts of their own, of which nobody is told

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            UserError: it is not there, may not be read, or the connection is lost.
        """
        return self._tried(name, lambda path: bytes(self._files.cat_file(path)))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            UserError: it may not be written, or the connection is lost.
        """
        self._tried(name, lambda path: self._files.pipe_file(path, content))

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there.

        Raises:
            UserError: the connection is lost.
        """

        def ask(path: str) -> int | None:
            try:
                return int(self._files.info(path)["size"])
            except FileNotFoundError:
                return None

        return self._tried(name, ask)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file in a folder; empty if there is no such folder.

        Raises:
            UserError: the connection is lost.
        """

        def ask(path: str) -> dict[str, int]:
            try:
                found = self._files.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            return {f"{folder}/{one['name'].rpartition('/')[2]}": int(one["size"] or 0) for one in found}

        return self._tried(folder, ask)

    def fetch(self, name: str, digest: str, to: Path) -> None:
        """Copy a file to this machine. If its digest is another one, it is fetched again.

        Raises:
            UserError: it is not there, may not be read, stays damaged, or the connection is lost.
        """

        def copy(path: str) -> None:
            self._files.get_file(path, str(to))
            if (found := file_digest(to)) != digest:
                raise ValueError(f"what came has the digest {found}, and {digest} was pushed")

        self._tried(name, copy)

    def _tried(self, name: str, do: Callable[[str], Found]) -> Found:
        where, pause = f"{self.address}/{name}", PAUSES[0]
        for left in range(self._retries, -1, -1):
            try:
                return do(f"{self._root}/{name}")
            except FileNotFoundError:
                raise UserError(
                    f"{where} is not there. Check the address, or put the tiles there: gcl-custom push ADDRESS"
                ) from None
            except Exception as error:  # the clients of services have errors of their own, without a common base
                if isinstance(error, OSError) and error.filename and explained(error):
                    raise  # a fault of this machine's disk
                if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
                    raise UserError(
                        f"{where}: access is denied ({error}). Keys come from the variables of the service, such as "
                        f"AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    ) from None
                why = str(error) or type(error).__name__
            if left:
                warn(f"{where}: {why}. Trying again in {pause:g} s")
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
        raise UserError(
            f"{where} cannot be had in {self._retries + 1} attempts ({why}). Check the connection and the server, and "
            f"type the same command again: it goes on from there. data.store.retries allows more attempts"
        )
