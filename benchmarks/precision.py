"""A training step in bf16 whose depthwise convolutions compute in fp32, against the same step in one precision.

    python -m benchmarks precision

Forward and back, batch 128, steps of all sides in turn, in processor time. Without bf16 units
``hardware.precision: auto`` is fp32, and there is nothing to measure.
"""

import statistics

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from benchmarks.record import Row
from benchmarks.steps import BATCH, Step, in_turn, step_of
from gcl_custom.pretraining import backbones, start
from gcl_custom.pretraining.small_maps import FewTapsConv2d, SmallDepthwiseConv2d
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.slow_in_bf16 import DepthwiseConv2d, DepthwiseConv2dSame
from gcl_custom.training import devices
from gcl_custom.training.allocator import keep_freed_memory

STEPS = 8
CASES = (("tf_efficientnet_lite0", 64), ("tf_efficientnet_lite0", 128), ("mobilenetv3_small_100", 64))
PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    DepthwiseConv2d: nn.Conv2d,
    DepthwiseConv2dSame: Conv2dSame,
    SmallDepthwiseConv2d: FewTapsConv2d,
}


def _step(name: str, size: int, precision: str, mixed: bool) -> Step:
    network: nn.Module = backbones.build(name, 3)[0]
    start.fix_norms(network, "frozen")
    for module in () if mixed else network.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    hardware = HardwareSettings(precision=precision, accelerator="cpu")  # type: ignore[arg-type]
    return step_of(network, size, lambda: devices.autocast(hardware, torch.device("cpu")))


def rows() -> list[Row]:
    """Two rows for each network and size of tiles: against fp32, and against bf16."""
    if not devices.uses_bf16(HardwareSettings(precision="auto", accelerator="cpu"), torch.device("cpu")):
        return []
    keep_freed_memory()
    found: list[Row] = []
    for name, size in CASES:
        ways = {
            "mixed": _step(name, size, "bf16", True),
            "fp32": _step(name, size, "fp32", False),
            "bf16": _step(name, size, "bf16", False),
        }
        taken = {what: statistics.median(times) for what, times in in_turn(ways, STEPS).items()}
        ours = taken.pop("mixed")
        for what, other in taken.items():
            detail = f"{other:.2f} -> {ours:.2f} s of processor time a step of {BATCH} tiles"
            title = f"depthwise in fp32, the rest in bf16; all in {what}: {name}, {size} px"
            found.append(Row(name=title, ratio=other / ours, target=None, detail=detail))
    return found
