"""How the C library keeps the memory that tensors on a CPU leave behind."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these parameters (malloc.h)."""
MOST_TO_TRIM = 2**31 - 1
"""Bytes; mallopt takes an int."""
LARGEST_FROM_HEAP = 2**30
"""Bytes. A tensor that is larger is mapped by itself, as before."""
USUAL_FROM_HEAP, USUAL_TO_TRIM = 2**25, 2**26
"""Bytes. Where glibc's own thresholds end up in a program with large tensors."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for the next tensor of that size, and give it back to the system at the end.

    Without the end, a process that trains one network after the other holds what the largest tensors of each have left
    in pieces: a study once held 7 GB of which it used one.
    """
    kept = keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            libc = ctypes.CDLL(None)
            libc.mallopt(MMAP_THRESHOLD, USUAL_FROM_HEAP)
            libc.mallopt(TRIM_THRESHOLD, USUAL_TO_TRIM)
            libc.malloc_trim(0)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor of that size; True where this C library knows how.

    By default glibc maps every large tensor anew and gives it back, so each step of a training has the kernel clear
    hundreds of megabytes, page by page: a fifth of a step's time, see ``benchmarks``.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST_FROM_HEAP) and libc.mallopt(TRIM_THRESHOLD, MOST_TO_TRIM))
