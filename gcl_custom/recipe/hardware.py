"""The grammar of the section ``hardware``."""

from typing import Literal

from gcl_custom.recipe.section import Count, Positive, Section


class HardwareSettings(Section):
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it, fp32 elsewhere; diffusion on a GPU in fp16, as it is published."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Count = 1
    """Processes or GPUs on this machine; more than one trains with DDP."""
    checkpoint_minutes: Positive = 1.0
    """Longest time between two checkpoints; each evaluation writes one too."""
