"""Disks that fill up, and files that may not grow, for real."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own, mounted in a new folder."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk takes the right to mount one: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def full(place: Path, left: int) -> Iterator[None]:
    """The disk is full but for so many bytes."""
    state, page = os.statvfs(place), os.sysconf("SC_PAGE_SIZE")
    with (place / "other.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(page, state.f_bavail * state.f_frsize - left))
    try:
        yield
    finally:
        (place / "other.bin").unlink()


@contextmanager
def without_inodes(place: Path) -> Iterator[None]:
    """The small disk holds as many files as it can, but for two; it has much room."""
    state = os.statvfs(place)
    subprocess.run(["mount", "-o", f"remount,nr_inodes={state.f_files - state.f_ffree + 2}", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", f"remount,nr_inodes={state.f_files}", place], check=True)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file grows beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
