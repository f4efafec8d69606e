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


HELD = """
from contextlib import nullcontext
import torch
from gcl_custom.training.allocator import freed_memory_kept, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return 4096 * int(file.read().split()[1])

before = resident()
keep_freed_memory()
with {manager}():
    tensors = [torch.ones(1_000_000) for _ in range(100)]
    above = torch.ones(1)  # so that the end of the heap stays where it is
    del tensors
print(resident() - before)
"""


def held(manager: str) -> int:
    """Bytes that a process holds after it has freed 400 MB."""
    source = HELD.format(manager=manager)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_at_the_end_it_is_given_back() -> None:
    assert held("freed_memory_kept") < 50_000_000 < 300_000_000 < held("nullcontext")
