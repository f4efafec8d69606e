"""The processes that train together, and sums over them. With one process nothing is sent."""

import atexit

from torch import Tensor, distributed


def count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def part_at_exit() -> None:
    """Destroy the process group when this process ends. Without this it may abort after all its work.

    Lightning does it for NCCL alone. With gloo, a thread may still hold a tensor that Python knows; if it asks for the
    interpreter while that shuts down, the process ends with SIGABRT.
    """
    if count() > 1:
        atexit.register(_part)


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def sum_over(values: Tensor) -> Tensor:
    """Replace values in place by their sum over processes, without a gradient."""
    if count() > 1:
        distributed.all_reduce(values)
    return values
