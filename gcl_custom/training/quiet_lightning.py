"""Lightning and torch without their notes on processes and products."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of the first level that is said. Torch's C++ reads the variable when it starts, in each new process.
LEVELS = {
    "lightning_fabric": logging.WARNING,
    "torch.multiprocessing.spawn": logging.ERROR,
}
CPP = "TORCH_CPP_LOG_LEVEL"


def hush() -> None:
    """Say warnings and errors alone from now on, in this process and in those that it starts."""
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault(CPP, "ERROR")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without those notes."""
    hush()
    yield
