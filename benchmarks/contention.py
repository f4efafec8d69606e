"""A training beside one busy process a core: on the threads that a command chooses, and on torch's own number.

    python -m benchmarks.contention [ROUNDS]

Steps of the quickstart's backbone run in processes of their own, in turn: without busy loops on torch's threads, and
beside them on either number. How a crowded machine compares with a quiet one is only said where this one is quiet
before the loops begin.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.record import Row
from gcl_custom import threads
from gcl_custom.pretraining import backbones
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import autocast

GOAL = 2.5
"""Most times the quiet time."""
QUIET = 0.2
"""Busy cores at which a machine still counts as quiet."""
BATCH, SIZE, STEPS = 64, 32, 20
HARDWARE = HardwareSettings(accelerator="cpu")


def steps(chosen: bool) -> dict[str, float]:
    """Wall and processor seconds of a step, and the threads it ran on."""
    if chosen:
        threads.compute()
    torch.manual_seed(0)
    network, _ = backbones.build("resnet10t", 3)
    optimizer = torch.optim.AdamW(network.parameters())
    tiles = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(HARDWARE, torch.device("cpu")):
            loss = network(tiles).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    before = os.times()
    for _ in range(STEPS):
        step()
    after = os.times()
    spent = after.user + after.system - before.user - before.system
    wall = (after.elapsed - before.elapsed) / STEPS
    return {"wall": wall, "processor": spent / STEPS, "threads": torch.get_num_threads()}


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _in_a_process(chosen: bool) -> dict[str, float]:
    code = f"import json; from benchmarks.contention import steps; print(json.dumps(steps({chosen})))"
    environment = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    environment["OMP_WAIT_POLICY"] = "passive"  # as the command line sets it
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(rounds: int = 3) -> dict[str, dict[str, float]]:
    """Medians over the rounds: without loops, and beside busy loops on the chosen and on torch's number of threads."""
    among = threads.cores()
    count = len(among) if among is not None else os.cpu_count() or 1
    taken: dict[str, list[dict[str, float]]] = {"without loops": [], "chosen": [], "torch's own": []}
    for _ in range(rounds):
        taken["without loops"].append(_in_a_process(False))
        with busy_loops(count):
            taken["chosen"].append(_in_a_process(True))
            taken["torch's own"].append(_in_a_process(False))
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in taken.items()
    }


def rows(rounds: int = 3) -> list[Row]:
    """What the choice brings; and on a machine that is quiet otherwise, how much slower a crowded one is."""
    before = threads.busy_cores()
    found = measured(rounds)
    detail = "; ".join(
        f"{name} {one['wall']:.2f} s a step, {one['processor']:.2f} of the processor, on {one['threads']:.0f}"
        for name, one in found.items()
    )
    saved = found["torch's own"]["wall"] / found["chosen"]["wall"]
    name = "threads as cores are free, against torch's own, beside a busy process a core"
    kept = [Row(name=name, ratio=saved, target=None, detail=f"{detail}; {before:.1f} cores were busy before")]
    if before <= QUIET:
        slower = found["chosen"]["wall"] / found["without loops"]["wall"]
        name = "a training step beside a busy process a core, against one on a quiet machine"
        kept.append(Row(name=name, ratio=slower, target=GOAL, detail=detail, most=True))
    return kept


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        print(f"{row['name']}: {row['ratio']:.1f} times. {row['detail']}")
