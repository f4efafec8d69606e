"""The processes that train together, and sums over them; one process is the plain case, in which nothing is sent."""

import atexit

from torch import Tensor, distributed


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which one this is, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def part_at_exit() -> None:
    """Have this process leave the others in order when it ends; without this it may abort after all its work.

    Lightning does so for NCCL alone. Gloo's threads may still hold a tensor that Python knows, and a thread that asks
    for the interpreter while that is being taken down ends the process with SIGABRT.
    """
    if count() > 1:
        atexit.register(_part)


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def sum_over(values: Tensor) -> Tensor:
    """Replace values, in place and without a gradient, by their sum over processes."""
    if count() > 1:
        distributed.all_reduce(values)
    return values
