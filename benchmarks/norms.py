"""A training step with fixed batch norms folded into their convolutions, against the same step with the norms.

    python -m benchmarks.norms [TILE_SIZE]

The network is EfficientNet-Lite0, as ``recipes/objects-small.yaml`` continues it: batch 128, fp32, forward and back,
steps of both in turn. Both compute the same function. Small depthwise maps are cut on both sides.
"""

import statistics
import sys

from torch import nn

from benchmarks.record import Row
from benchmarks.steps import BATCH, Step, in_turn, step_of
from gcl_custom.pretraining import backbones, start
from gcl_custom.pretraining.folded_norms import fold_norms
from gcl_custom.training.allocator import keep_freed_memory

STEPS = 12
TARGET = 1.17
"""What was measured by hand before it was built."""


def _step(folded: bool, size: int) -> Step:
    network: nn.Module = backbones.build("tf_efficientnet_lite0", 3)[0]
    start.fix_norms(network, "frozen")
    if folded:
        fold_norms(network, 3, size)
    return step_of(network, size)


def rows(size: int = 64) -> list[Row]:
    """One row with name, ratio, target and detail; in processor time."""
    keep_freed_memory()
    seconds = in_turn({"plain": _step(False, size), "folded": _step(True, size)}, STEPS)
    plain, ours = map(statistics.median, seconds.values())
    detail = f"{plain:.2f} -> {ours:.2f} s of processor time a step of {BATCH} tiles"
    return [Row(name="fixed norms folded", ratio=plain / ours, target=TARGET, detail=detail)]


if __name__ == "__main__":
    for found in rows(*map(int, sys.argv[1:])):
        print(f"{found['name']}: {found['ratio']:.2f} times. {found['detail']}")
