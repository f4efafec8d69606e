"""The grammar of the section ``hardware``."""

from typing import Annotated, Literal

from pydantic import Field

from gcl_custom.recipe.section import Positive, Section


class HardwareSettings(Section):
    """What to compute on."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format. auto is bf16 where the device computes in it and fp32 elsewhere; diffusion runs in fp16 on a GPU,
    as it was published."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Kind of device. auto takes a GPU if there is one, then Apple's MPS, then the CPU."""
    devices: Annotated[int, Field(ge=1, le=256)] = 1
    """Number of GPUs, or of processes on a CPU, one for each core at most. More than one train together."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several devices train. With ddp each holds whole networks. With fsdp each holds an equal part of MaskGIT, for
    one that is too large for a device; other networks train as with ddp."""
    checkpoint_minutes: Positive = 1.0
    """Longest time between two checkpoints. Each evaluation writes one too."""
    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Number of machines with so many devices each. For more than one, torchrun or srun starts the command on each."""
    loggers: list[Literal["csv", "mlflow", "wandb"]] = []
    """Boards that get the figures and pictures of trainings beside TensorBoard, through Lightning's loggers. mlflow and
    wandb (Weights & Biases) are extras of the package, and write on this machine unless their own variables name a
    server."""

    @property
    def processes(self) -> int:
        """Number of processes that work together, on all machines."""
        return self.devices * self.nodes
