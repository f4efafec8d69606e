"""Freed memory is used again, so that a step does not have the kernel clear it anew."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from gcl_custom.training.allocator import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
def step():
    torch.ones(12_000_000).add(1)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: bool) -> int:
    """Page faults of twenty steps with tensors of 48 MB, in a process of their own."""
    done = subprocess.run([sys.executable, "-c", STEPS.format(kept=kept)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_the_second_step_takes_the_memory_of_the_first() -> None:
    assert 4 * faults(kept=True) < faults(kept=False)
