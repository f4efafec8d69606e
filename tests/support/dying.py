"""A process that dies, as by kill -9, between finding a block and keeping it."""

import os
import signal
from typing import Any


def dies_at(owner: type, method: str, killed_at: int | None) -> list[int]:
    """Have this process die at a call of a method that keeps a block. For a process of its own: nothing is undone.

    Args:
        method: takes the number of the block first.
        killed_at: the call, counted from 1; None for no death.

    Returns:
        The numbers of the blocks that were given so far.
    """
    keep, found = getattr(owner, method), list[int]()

    def dying(self: object, number: int, *rest: Any) -> None:
        found.append(number)
        if len(found) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        keep(self, number, *rest)

    setattr(owner, method, dying)
    return found
