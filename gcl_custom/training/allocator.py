"""How the C library keeps the memory that tensors on a CPU leave behind."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these parameters (malloc.h)."""
MOST_TO_TRIM = 2**31 - 1
"""Bytes; mallopt takes an int."""
LARGEST_FROM_HEAP = 2**30
"""Bytes. A tensor that is larger is mapped by itself, as before."""


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor of that size; True where this C library knows how.

    By default glibc maps every large tensor anew and gives it back, so each step of a training has the kernel clear
    hundreds of megabytes, page by page: a fifth of a step's time, see ``benchmarks``.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST_FROM_HEAP) and libc.mallopt(TRIM_THRESHOLD, MOST_TO_TRIM))
