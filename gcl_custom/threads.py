"""How many threads to compute with: as many as the machine has cores free, unless the user says otherwise.

Threads that share a core with other work wait for each other at every step, and some of torch's kernels spin
meanwhile: beside busy processes a training step on two threads took 4.5 times as long as on one. But sums over another
number of threads are rounded differently. So a stage keeps its number: one that goes on takes the number that it began
with, and ends with the bytes of an undisturbed one.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from gcl_custom.console import say
from gcl_custom.counted import counted

SAMPLE_SECONDS = 0.25
"""While this process waits, other work on the cores is counted."""
FRESH_SECONDS = 60.0
"""A count as old as this is taken anew."""
STAT = Path("/proc/stat")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL = 0, 1, 2, 5, 6, 7
"""Places of the times of a core in /proc/stat, see proc(5)."""
BUSY = (USER, SYSTEM, IRQ, SOFTIRQ, STEAL)
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
GIVEN = any(name in os.environ for name in VARIABLES)
"""Whether the user set the number. It is read here, since Fabric sets a variable for the processes that it starts."""


@dataclass
class _State:
    """What was chosen last."""

    most: int = 0
    """What torch, or the user through torch, would take; 0 before the first choice."""
    now: int = 0
    free: int = 0
    counted: float = -math.inf
    """Time of the monotonic clock at which ``free`` was counted."""


_state = _State()


def cores() -> set[int] | None:
    """The cores that this process may run on; None where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def quota() -> float | None:
    """The cores' worth of time that a container may use (cgroup v2), if it is limited."""
    try:
        limit, period = QUOTA.read_text(encoding="ascii").split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # another system, or "max"
        return None


def _busy_seconds(among: set[int]) -> float | None:
    """Seconds since the machine's start in which these cores worked; None where the system does not say.

    Work of a lower priority counts only if this process has one too: it gives way otherwise.
    """
    places = BUSY if os.nice(0) <= 0 else (*BUSY, NICE)
    try:
        lines = [line.split() for line in STAT.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    ticks = [sum(int(line[1 + place]) for place in places) for line in lines if line[0] in {f"cpu{n}" for n in among}]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def busy_cores() -> float:
    """How many of the cores other work keeps busy, over a moment in which this thread waits; 0 where unknown."""
    among = cores()
    if among is None or (before := _busy_seconds(among)) is None:
        return 0.0
    start = time.monotonic()
    time.sleep(SAMPLE_SECONDS)
    after = _busy_seconds(among)
    return 0.0 if after is None else max(0.0, after - before) / (time.monotonic() - start)


def free_threads(most: int, busy: float) -> int:
    """How many of torch's threads have a core for themselves; at least one.

    Args:
        most: what torch would take.
        busy: cores that other work keeps busy.
    """
    among, limit = cores(), quota()
    free = (len(among) if among is not None else most) - busy
    return max(1, min(most, round(free if limit is None else min(free, limit))))


def compute(stage: str = "", kept: int | None = None) -> int:
    """Set the number of torch's threads for the work that begins now.

    Args:
        stage: named in messages.
        kept: the number with which that work began, if it goes on.

    Returns:
        The number.
    """
    import torch  # here, since a command that computes nothing does not need it

    if torch.get_num_threads() != _state.now:  # at first, and where the user sets it in Python
        _state.most = _state.now = torch.get_num_threads()
    if GIVEN:
        if kept is not None and kept != _state.now:
            say(
                f"{stage}: began on {counted(kept, 'thread')}, and continues on {_state.now}, as {_variable()} says: "
                f"sums round differently"
            )
        return _state.now
    if kept is not None and kept <= _state.most:
        if kept != _state.now:
            say(f"{stage}: continues on {counted(kept, 'thread')}, as it began, so that its bytes stay the same")
        wanted = kept
    else:
        wanted = _free_now()
    torch.set_num_threads(wanted)
    _state.now = wanted
    return wanted


def _free_now() -> int:
    """The threads that have a core for themselves, counted at most once in ``FRESH_SECONDS``; a change is said."""
    if time.monotonic() - _state.counted >= FRESH_SECONDS:
        busy, before = busy_cores(), _state.free
        _state.free, _state.counted = free_threads(_state.most, busy), time.monotonic()
        if _state.free < _state.most and _state.free != before:
            say(f"threads: {_state.free} of {_state.most}, since other work keeps {busy:.1f} cores busy")
    return _state.free


def _variable() -> str:
    return next((name for name in VARIABLES if name in os.environ), VARIABLES[0])
