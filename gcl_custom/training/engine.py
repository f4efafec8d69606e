"""Lightning's Fabric, and works that several processes do with it: those of a launcher, or new ones of this machine."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from gcl_custom import console
from gcl_custom.errors import Stopped
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training import launched, processes
from gcl_custom.training.devices import pick_device, require_devices, require_processes
from gcl_custom.training.quiet_lightning import hush

hush()  # here, since a new process reads this module before Lightning speaks there


def engine(hardware: HardwareSettings, devices: int = 1) -> Fabric:
    """Lightning's Fabric on the recipe's accelerator, with so many devices of this machine.

    Each has a process, which is started with the work and ends with it. A launcher's variables say nothing here. The
    precision is ours, see ``Steps.take``: Fabric's autocast has the cache.

    Raises:
        UserError: there are fewer devices, or the accelerator is not there.
    """
    if devices > 1:
        require_devices(hardware)
    strategy = "auto" if devices == 1 else DDPStrategy(start_method="spawn", find_unused_parameters=True)
    return _fabric(hardware, devices, 1, LightningEnvironment(), strategy)


def _fabric(
    hardware: HardwareSettings, devices: int, nodes: int, environment: ClusterEnvironment, strategy: str | DDPStrategy
) -> Fabric:
    kind = pick_device(hardware).type
    return Fabric(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=devices,
        num_nodes=nodes,
        plugins=[environment],
        strategy=strategy,
    )


def launch(hardware: HardwareSettings, work: Callable[..., None], *arguments: Any, most: int = 2**16) -> None:
    """Do a work in every process that the recipe asks for.

    These are the ones that a launcher started. Without a launcher it is this one; if there are to be more, new ones
    start with the work and end with it.

    Args:
        work: called with a Fabric and the arguments. Only the first process prints.
        most: number of processes that have something to do; no more are started.

    Raises:
        UserError: as the work raised it, in whichever process; or a process was killed, and the others were ended.
        RuntimeError: a mistake of ours in a process, with its traceback.
    """
    require_processes(hardware, launched.started())
    if launched.leads():
        with launched.sharing(_do_together, hardware, work, *arguments):
            _do_together(hardware, work, *arguments)
        return
    fabric = engine(hardware, min(hardware.devices, most))
    if fabric.world_size == 1:
        fabric.launch(work, *arguments)
        return
    reports: SimpleQueue[processes.Report] = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        fabric.launch(_do, os.getpid(), reports, work, *arguments)  # type: ignore[arg-type]
    except (ProcessExitedException, ProcessRaisedException) as error:
        found: list[processes.Report] = []
        while not reports.empty():
            found.append(reports.get())
        if not found and isinstance(error, ProcessRaisedException):
            raise
        name = error.signal_name if isinstance(error, ProcessExitedException) else None
        raise processes.cause(found, f"by {name}" if name else None) from None


def _do_together(hardware: HardwareSettings, work: Callable[..., None], *arguments: Any) -> None:
    """The work in one of the processes that a launcher started, with a Fabric over all of them."""
    strategy = DDPStrategy(find_unused_parameters=True)
    fabric = _fabric(hardware, hardware.devices, hardware.nodes, launched.environment(), strategy)
    fabric.launch(_on_threads, torch.get_num_threads(), work, *arguments)  # type: ignore[arg-type]


def _on_threads(fabric: Fabric, threads: int, work: Callable[..., None], *arguments: Any) -> None:
    """The work on as many threads as before Fabric chose a number of its own."""
    torch.set_num_threads(threads)
    work(fabric, *arguments)


def _do(
    fabric: Fabric,
    parent: int,
    reports: "SimpleQueue[processes.Report]",
    work: Callable[..., None],
    *arguments: Any,
) -> None:
    """The work in one of several new processes. What goes wrong is reported before the others can notice it."""

    def interrupted(*_: object) -> None:
        """Ctrl-C reaches every process of a terminal, and the first one decides. It is also sent if that has died."""
        if os.getppid() != parent:
            os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # sent where another process failed
    console.console.quiet = fabric.global_rank > 0
    processes.part_at_exit()
    try:
        work(fabric, *arguments)
    except Stopped:
        return
    except Exception as error:  # noqa: BLE001  each is reported, and ends the process
        reports.put(processes.report_of(error))
        sys.exit(1)
