"""Which of several machines this is, where they share the work on one run.

A person, torchrun or SLURM says so in the environment. Nothing is sent between machines: what they share is a folder.
"""

import os

from gcl_custom.errors import UserError

NUMBERS = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
"""Where the number of the machine stands: set by hand, by torchrun, by SLURM; the first of them that is set counts."""
LAUNCHERS = (
    "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES",
)  # fmt: skip


def number(nodes: int) -> int:
    """This machine's number among so many, from 0; of one it is 0, whatever the environment says.

    What a launcher has said is then taken out of the environment. Otherwise Lightning and torch would read it, too, and
    take the processes that they start on this machine for the launcher's.

    Raises:
        UserError: the number is missing or too high, or several processes were started on each machine.
    """
    said = {name: os.environ.pop(name) for name in (*NUMBERS, *LAUNCHERS) if name in os.environ}
    tasks = int(said.get("SLURM_STEP_NUM_TASKS", 1)) // int(said.get("SLURM_STEP_NUM_NODES", 1))
    if (started := max(tasks, int(said.get("LOCAL_WORLD_SIZE", 1)))) > 1:
        raise UserError(
            f"{started} processes of this command were started on each machine. Start one there, which starts those of "
            f"hardware.devices itself: torchrun --nproc-per-node=1, or srun --ntasks-per-node=1"
        )
    if nodes == 1:
        return 0
    name = next((name for name in NUMBERS if name in said), None)
    if name is None or not said[name].isdecimal() or int(said[name]) >= nodes:
        found = "the environment does not say which of them this is" if name is None else f"{name} is {said[name]!r}"
        raise UserError(
            f"hardware.nodes is {nodes}, but {found}. Set NODE_RANK on each machine, from 0 to {nodes - 1}, or let "
            f"torchrun or srun start the command there. On this machine alone: --set hardware.nodes=1"
        )
    return int(said[name])
