"""Lightning without its notes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without its notes on processes and products, and without a warning on torch that does not hold here."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    yield
