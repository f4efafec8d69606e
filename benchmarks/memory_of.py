"""The memory of a process."""

from pathlib import Path

LOOK = 0.005
"""Seconds between two looks at a process's memory."""


def private(process: int | str = "self") -> int:
    """Bytes of a process's memory that belong to no file; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def peak() -> int:
    """Bytes that were resident at the most in this process.

    On Linux ``getrusage`` begins with what the process that started this one had, which may be more.
    """
    import resource  # here, as tests copy this function's text into a program
    import sys
    from pathlib import Path

    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
