"""What a launcher says of the processes that it started: torchrun, or srun of SLURM. Both say it in variables."""

import os
from typing import Literal, NamedTuple

from gcl_custom.errors import UserError

NUMBERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_PROCID",
           "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "MASTER_PORT")  # fmt: skip
"""Variables by which launchers number processes; torch and Lightning read them as whole numbers."""


class Launch(NamedTuple):
    """The processes that a launcher started together, and which of them this one is."""

    by: Literal["torchrun", "srun"]
    rank: int
    """Number of this process among all, from 0."""
    local_rank: int
    """Its number on its node."""
    processes: int
    nodes: int


def launch() -> Launch | None:
    """The launch that this process belongs to; None if it was started alone.

    Raises:
        UserError: a variable is no number, or srun was not told how many processes a node has.
    """
    for name in NUMBERS:
        if not (value := os.environ.get(name, "0")).isdecimal():
            raise UserError(f"The variable {name} is {value!r}, and should be a whole number. Type: unset {name}")
    if "TORCHELASTIC_RUN_ID" in os.environ and _number("WORLD_SIZE") > 1:
        return Launch(
            "torchrun", _number("RANK"), _number("LOCAL_RANK"), _number("WORLD_SIZE"), _number("GROUP_WORLD_SIZE")
        )
    # A batch script has SLURM_NTASKS, too, but only what srun starts is a step.
    if _number("SLURM_STEP_NUM_TASKS") > 1:
        if "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise UserError(
                "srun started several processes without --ntasks-per-node, which the processes on each node are "
                "counted by. Give it to srun or sbatch"
            )
        return Launch(
            "srun", _number("SLURM_PROCID"), _number("SLURM_LOCALID"), _number("SLURM_STEP_NUM_TASKS"),
            _number("SLURM_STEP_NUM_NODES"),
        )  # fmt: skip
    return None


def _number(name: str) -> int:
    return int(os.environ.get(name, "0"))
