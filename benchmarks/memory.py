"""What memory costs: by the number of tiles (``many_tiles``), and a training step with freed memory kept, against the
same step as the C library comes.

    python -m benchmarks.memory [TILE_SIZE]

Steps of EfficientNet-Lite0 as ``recipes/objects-small.yaml`` has it: fixed batch norms, 128 tiles, fp32. Each side runs
in processes of its own, in turn, since the setting holds for a whole process. Largest resident memory is stated beside
the ratio.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.memory_of import peak
from benchmarks.steps import CPU, in_turn, step_of
from gcl_custom.pretraining import backbones, start
from gcl_custom.training.allocator import keep_freed_memory
from gcl_custom.training.stopwatch import Stopwatch

STEPS, ROUNDS = 8, 3


def steps(kept: bool, size: int) -> dict[str, float]:
    """Seconds of a step, and MB of the process at its largest."""
    if kept:
        keep_freed_memory()
    network, _ = backbones.build("tf_efficientnet_lite0", 3)
    start.fix_norms(network, "frozen")
    taken = in_turn({"step": step_of(network, size)}, STEPS, Stopwatch(CPU))["step"]
    return {"seconds": statistics.median(taken), "memory": peak() / 1e6}


def rows(size: int = 64) -> Sequence[Any]:
    """The rows of ``many_tiles``, and one of the step."""
    from benchmarks import many_tiles  # here, since the processes that take steps are to load no more than these need

    counted = list(many_tiles.rows())
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for kept, runs in found.items():
            code = f"import json; from benchmarks.memory import steps; print(json.dumps(steps({kept}, {size})))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
    (plain, plain_mb), (ours, ours_mb) = (
        [statistics.median(run[key] for run in found[kept]) for key in ("seconds", "memory")] for kept in (False, True)
    )
    detail = f"{plain:.2f} -> {ours:.2f} s a step; {plain_mb:,.0f} -> {ours_mb:,.0f} MB"
    return [*counted, {"name": "freed memory kept", "ratio": plain / ours, "target": None, "detail": detail}]


if __name__ == "__main__":
    for line in rows(*map(int, sys.argv[1:])):
        print(f"{line['name']}: {line['ratio']:.3g} {line.get('unit', 'times')}. {line['detail']}")
