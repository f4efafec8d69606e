"""Where to compute, and in which precision."""

import math
import os
import platform
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom.bf16_units import has_units
from gcl_custom.console import warn
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.launcher import Launch
from gcl_custom.recipe.hardware import HardwareSettings

Made = TypeVar("Made")


def pick_device(hardware: HardwareSettings) -> torch.device:
    """The device of this process.

    Raises:
        UserError: the recipe asks for an accelerator that is not there.
    """
    available = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = hardware.accelerator
    if wanted == "auto":
        wanted = next(name for name in ("gpu", "mps", "cpu") if available[name])
    if not available[wanted]:
        raise UserError(
            f"hardware.accelerator is {wanted}, but torch finds none here. Use --set hardware.accelerator=auto"
        )
    return torch.device("cuda" if wanted == "gpu" else wanted)


def require_devices(hardware: HardwareSettings) -> None:
    """Check that there are as many devices as the recipe asks for.

    Raises:
        UserError: there are fewer, or the accelerator is not there.
    """
    kind = pick_device(hardware).type
    if kind == "cuda":
        there, what = torch.cuda.device_count(), "GPUs here"
    elif kind == "mps":
        there, what = 1, "device here"
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        there, what = max(2, cores), "processes on this CPU"  # two run on one core, too
    if hardware.devices > there:
        raise UserError(
            f"hardware.devices is {hardware.devices}, but there can be {there} {what}. Use --set "
            f"hardware.devices={there}, or another hardware.accelerator"
        )


def require_processes(hardware: HardwareSettings, launch: Launch | None) -> None:
    """Check that a launcher started as many processes as the recipe asks for.

    Args:
        launch: what it started; None if this process was started alone.

    Raises:
        UserError: there are more or fewer.
    """
    if launch is None:
        if hardware.nodes > 1:
            raise UserError(
                f"hardware.nodes is {hardware.nodes}, but this command was started alone. Start it on every node by "
                f"torchrun or srun, as docs/many-devices.md shows, or use --set hardware.nodes=1"
            )
        return
    if (launch.processes, launch.nodes) != (hardware.processes, hardware.nodes):
        raise UserError(
            f"{launch.by} started {launch.processes} processes on {launch.nodes} nodes, but hardware.nodes is "
            f"{hardware.nodes}, with hardware.devices {hardware.devices} on each. Use --set "
            f"hardware.nodes={launch.nodes} --set hardware.devices={launch.processes // launch.nodes}"
        )


def uses_bf16(hardware: HardwareSettings, device: torch.device) -> bool:
    """Whether matrices are multiplied in bf16: the recipe's choice, or for auto whether the device has units for it."""
    if hardware.precision != "auto":
        return hardware.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_units("amx_bf16", "avx512_bf16")


def autocast(hardware: HardwareSettings, device: torch.device, cache: bool = True) -> AbstractContextManager[object]:
    """bf16 where the recipe and the device have it.

    Args:
        cache: keep the weights that were cast, for further passes.
    """
    if uses_bf16(hardware, device):
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=cache)
    return nullcontext()


class Pieces:
    """Works on as many tiles at a time as fit in the device's memory, which is found by trying.

    Args:
        most: tiles to begin with.
        what: name of the result, for messages.
    """

    def __init__(self, most: int, what: str) -> None:
        self._size, self._what = most, what

    def __call__(self, make: Callable[[Tensor], Made], tiles: Int[Tensor, " b"]) -> list[Made]:
        """The result of each piece.

        Raises:
            UserError: the device has not enough memory for one tile.
        """
        while True:
            try:
                return [make(some) for some in tiles.split(self._size)]
            except torch.OutOfMemoryError:
                if self._size == 1:
                    raise UserError(
                        f"{self._what}: the device has not enough memory for one tile. Take a smaller generator, lower "
                        f"hardware.precision, or set hardware.accelerator to cpu"
                    ) from None
                self._size = math.ceil(min(self._size, len(tiles)) / 2)
                warn(f"{self._what}: out of memory; going on with {counted(self._size, 'tile')} at a time")


def processor() -> str:
    """The processor's model, from /proc on Linux and from ``platform`` elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def described(device: torch.device) -> str:
    """A device in words, to state beside times: the model, and on a CPU the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, " + (device.type if device.type != "cpu" else f"{threads} thread{'s' * (threads > 1)}")


def precision_of(hardware: HardwareSettings, device: torch.device) -> torch.dtype:
    """The precision of published models: the recipe's, if it sets one.

    Otherwise it is fp16 on a GPU, as they are published, and bf16 on another device that has units for it.
    """
    if hardware.precision == "auto" and device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if uses_bf16(hardware, device) else torch.float32
