"""The processes that train together: how they begin and end, and sums over them. With one process nothing is sent."""

import atexit
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any, Literal

from lightning_fabric import Fabric
from torch import Tensor, distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from gcl_custom import console
from gcl_custom.errors import Stopped, UserError
from gcl_custom.machine_faults import KEPT, explained
from gcl_custom.training.quiet_lightning import hush

hush()  # here, since a new process reads this module before Lightning speaks there

Report = tuple[Literal["lost another", "mendable", "ours"], str]
"""Why a process failed, and what it said: for a mistake of ours, its traceback."""
LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|gloo|nccl|socket|tcpstore|timed? ?out", re.IGNORECASE)
"""What a process says when another one that it computes with is gone."""


def launch(fabric: Fabric, work: Callable[..., None], *arguments: Any) -> None:
    """Do a work in every process of the Fabric: in this one if it is the only one, else in new ones that then end.

    Args:
        work: called with the Fabric and the arguments. Only the first process prints.

    Raises:
        UserError: as the work raised it, in whichever process; or a process was killed, and the others were ended.
        RuntimeError: a mistake of ours in a process, with its traceback.
    """
    if fabric.world_size == 1:
        fabric.launch(work, *arguments)
        return
    reports: SimpleQueue[Report] = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        fabric.launch(_do, os.getpid(), reports, work, *arguments)  # type: ignore[arg-type]
    except (ProcessExitedException, ProcessRaisedException) as error:
        raise _cause(error, reports) from None


def _do(
    fabric: Fabric, parent: int, reports: "SimpleQueue[Report]", work: Callable[..., None], *arguments: Any
) -> None:
    """The work in one of several processes. What goes wrong is reported before the others can notice it."""

    def interrupted(*_: object) -> None:
        """Ctrl-C reaches every process of a terminal, and the first one decides. It is also sent if that has died."""
        if os.getppid() != parent:
            os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # sent where another process failed
    console.console.quiet = fabric.global_rank > 0
    part_at_exit()
    try:
        work(fabric, *arguments)
    except Stopped:
        return
    except Exception as error:  # noqa: BLE001  each is reported, and ends the process
        message = str(error) if isinstance(error, UserError) else explained(error)
        if message is not None:
            reports.put(("mendable", message[:10_000]))
        elif LOST.search(str(error)):
            reports.put(("lost another", str(error).splitlines()[0][:300]))
        else:
            reports.put(("ours", traceback.format_exc()[-10_000:]))
        sys.exit(1)


def _cause(error: ProcessExitedException | ProcessRaisedException, reports: "SimpleQueue[Report]") -> Exception:
    """Why processes ended, out of what each reported. Those that only lost another one count least."""
    found: dict[str, str] = {}
    while not reports.empty():
        kind, text = reports.get()
        found[kind] = text
    if "mendable" in found:
        return UserError(found["mendable"])
    if "ours" in found:
        return RuntimeError(f"in one of several processes:\n{found['ours']}")
    if not found and isinstance(error, ProcessRaisedException):
        return error
    how = f" by {name}" if isinstance(error, ProcessExitedException) and (name := error.signal_name) else ""
    said = f" ({found['lost another']})" if found and not how else ""
    return UserError(
        f"One of the processes that train together was killed{how}, and the others were ended{said}. The system does "
        f"so where memory is short: lower the batch or hardware.devices then. {KEPT}"
    )


def count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


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
