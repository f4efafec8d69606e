"""Lightning without its notes, and without warnings that do not hold here."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED = (
    ".*in eval mode at the start of training.*",  # frozen feature networks
    ".*does not have many workers.*",  # Batches reads ahead in a thread of its own
    ".*across ranks is zero.*",  # a training that had ended, but whose stage had not
    ".*LeafSpec.*",  # Lightning's use of torch's trees
)
"""Warnings of Lightning's that do not hold here."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without its notes on hardware and products, and without the warnings that do not hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for expected in EXPECTED:
            warnings.filterwarnings("ignore", message=expected)
        yield
