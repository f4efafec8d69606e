"""A training beside one busy process a core: on the threads that a command chooses, and on torch's own number.

    python -m benchmarks.contention [ROUNDS]

Steps of the quickstart's backbone run in processes of their own, in turn: alone on torch's threads, and beside busy
loops on either number. How a crowded machine compares with a quiet one is only known where the machine is quiet
otherwise: the load before the busy loops is stated.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gcl_custom import threads
from gcl_custom.pretraining import backbones
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import autocast

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
    """Medians over the rounds: alone, and beside busy loops on the chosen and on torch's number of threads."""
    among = threads.cores()
    count = len(among) if among is not None else os.cpu_count() or 1
    taken: dict[str, list[dict[str, float]]] = {"alone": [], "chosen": [], "torch's own": []}
    for _ in range(rounds):
        taken["alone"].append(_in_a_process(False))
        with busy_loops(count):
            taken["chosen"].append(_in_a_process(True))
            taken["torch's own"].append(_in_a_process(False))
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in taken.items()
    }


def rows(rounds: int = 3) -> list[dict[str, Any]]:
    """One row with name, ratio, target and detail."""
    load = os.getloadavg()[0]
    found = measured(rounds)
    detail = "; ".join(
        f"{name} {one['wall']:.2f} s a step, {one['processor']:.2f} of the processor, on {one['threads']:.0f}"
        for name, one in found.items()
    )
    saved = found["torch's own"]["wall"] / found["chosen"]["wall"]
    name = "threads as cores are free, against torch's own, beside a busy process a core"
    return [{"name": name, "ratio": saved, "target": None, "detail": f"{detail}; load {load:.1f} before"}]


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        print(f"{row['name']}: {row['ratio']:.1f} times. {row['detail']}")
