"""Two processes as a launcher would start them: on two nodes of one process each, which are this machine."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch

from gcl_custom.errors import Stopped
from gcl_custom.launcher import launch
from gcl_custom.training import engine, launched

assert engine, "imported here, so that forked processes have it"
LIMIT = 60.0
"""Seconds in which all have to end once one is gone."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def variables(by: str, rank: int, port: int) -> dict[str, str]:
    """What torchrun or srun says to a process."""
    if by == "torchrun":
        said = {"TORCHELASTIC_RUN_ID": "1", "RANK": rank, "LOCAL_RANK": 0, "GROUP_RANK": rank, "WORLD_SIZE": 2,
                "GROUP_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}  # fmt: skip
    else:
        said = {"SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_NUM_NODES": 2, "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1,
                "SLURM_NNODES": 2, "SLURM_PROCID": rank, "SLURM_LOCALID": 0, "SLURM_NODEID": rank,
                "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_ID": "1"}  # fmt: skip
    return {name: str(value) for name, value in said.items()} | {"MASTER_PORT": str(port)}


class Two:
    """The processes, and how they ended.

    Args:
        folder: where the first one begins; by default, where the tests do.
    """

    def __init__(self, work: Callable[[], object], by: str = "srun", folder: Path | None = None) -> None:
        context, port = multiprocessing.get_context("fork"), free_port()
        self._said: SimpleQueue[str] = context.SimpleQueue()
        self.processes: list[BaseProcess] = [
            context.Process(target=_do, args=(variables(by, rank, port), folder, work, self._said)) for rank in (0, 1)
        ]
        for process in self.processes:
            process.start()

    def codes(self, limit: float = LIMIT) -> list[int | None]:
        """The exit codes; None where a process has not ended in so many seconds after the one before."""
        for process in self.processes:
            process.join(limit)
        ended = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return ended

    @property
    def error(self) -> str:
        """What the first process raised, with the kind of error; empty if nothing."""
        return "" if self._said.empty() else self._said.get()


def _do(
    said_by_launcher: dict[str, str], folder: Path | None, work: Callable[[], object], said: "SimpleQueue[str]"
) -> None:
    torch.set_num_threads(1)
    os.environ |= said_by_launcher
    found = launch()
    assert found
    if found.rank == 0 and folder:
        os.chdir(folder)
    launched.join(found)
    if found.rank:
        sys.exit(launched.follow())
    try:
        with launched.leading():
            work()
    except (Exception, Stopped) as error:  # noqa: BLE001  the test looks at it
        said.put(f"{type(error).__name__}: {error}")
        sys.exit(1)
