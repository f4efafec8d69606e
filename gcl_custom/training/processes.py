"""The processes that work together: sums over them, and why one of them failed. With one process nothing is sent."""

import atexit
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

# Before there is a process group: its functions take the group of that moment as a default, and if they come later
# (with torch.optim, say) they hold it for good. Its threads then outlive its destruction; see part_at_exit.
import torch.distributed.nn.functional  # noqa: F401
from torch import Tensor, distributed

from gcl_custom.errors import UserError
from gcl_custom.machine_faults import KEPT, explained

Value = TypeVar("Value")
Report = tuple[Literal["lost another", "mendable", "ours"], str]
"""Why a process failed, and what it said: for a mistake of ours, its traceback."""
LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|gloo|nccl|socket|tcpstore|timed? ?out", re.IGNORECASE)
"""What a process says when another one that it computes with is gone."""
_apart = False
"""Whether this process now works without those that a launcher started with it."""


def count() -> int:
    """The number of processes."""
    there = distributed.is_available() and distributed.is_initialized() and not _apart
    return distributed.get_world_size() if there else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def work_apart() -> None:
    """Count this process alone from now on, although it has a process group with others."""
    global _apart
    _apart = True


@contextmanager
def together() -> Iterator[None]:
    """Count the others again."""
    global _apart
    before, _apart = _apart, False
    try:
        yield
    finally:
        _apart = before


def part_at_exit() -> None:
    """Destroy the process group when this process ends. Without this it may abort after all its work.

    Lightning does it for NCCL alone. With gloo, a thread may still hold a tensor that Python knows; if it asks for the
    interpreter while that shuts down, the process ends with SIGABRT.
    """
    if count() > 1:
        atexit.register(_part)


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def sum_over(values: Tensor) -> Tensor:
    """Replace values in place by their sum over processes, without a gradient."""
    if count() > 1:
        distributed.all_reduce(values)
    return values


def gathered(value: Value) -> list[Value]:
    """The values of all processes by their number, in the first one; in the others nothing."""
    if count() == 1:
        return [value]
    found: list[Value] | None = [value] * count() if rank() == 0 else None
    distributed.gather_object(value, found)
    return found or []


# ---------------------------------------------------------------- why one failed


def report_of(error: Exception) -> Report:
    """Why a process failed: by the user's mistake or the machine's, since another one is gone, or by ours."""
    message = str(error) if isinstance(error, UserError) else explained(error)
    if message is not None:
        return "mendable", message[:10_000]
    if LOST.search(str(error)):
        return "lost another", str(error).splitlines()[0][:300]
    return "ours", "".join(traceback.format_exception(error))[-10_000:]


def cause(reports: Iterable[Report], killed: str | None = None) -> Exception:
    """Why processes ended, out of what each reported. Those that only lost another one count least.

    Args:
        killed: how one ended that reported nothing, such as ``by SIGKILL``.
    """
    found = dict(reports)
    if "mendable" in found:
        return UserError(found["mendable"])
    if "ours" in found:
        return RuntimeError(f"in one of several processes:\n{found['ours']}")
    how = f" {killed}" if killed else ""
    said = f" ({found['lost another']})" if found and not how else ""
    return UserError(
        f"One of the processes that work together was killed{how}, and the others were ended{said}. The system does "
        f"so where memory is short: lower the batch or hardware.devices then. {KEPT}"
    )
