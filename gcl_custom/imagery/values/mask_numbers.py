"""The values of a mask: a class number a pixel.

h w  pixels of a mask
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from gcl_custom.imagery.values.forms import Unusable
from gcl_custom.measures.overlap import IGNORED


class Mask(NamedTuple):
    values: UInt8[np.ndarray, "h w"]
    """As in the file; 255 also where it has no class."""
    hidden: bool
    """Whether something other than a 255 of the file says so of a pixel."""


def mask_of(values: Shaped[np.ndarray, "c h w"], valid: Bool[np.ndarray, "h w"] | None) -> Mask:
    """The mask in decoded values. Several bands are read if they agree. Negative numbers and NaN are no class.

    Args:
        valid: where the file says that there is one; None for everywhere.

    Raises:
        Unusable: they are colours, fractions, or numbers beyond 255.
    """
    if len(values) in (2, 4) and (values[-1] == np.iinfo(np.uint8).max).all():  # an alpha band that hides nothing
        values = values[:-1]
    if not np.array_equal(values, np.broadcast_to(values[:1], values.shape), equal_nan=True):
        raise Unusable("colours", f"{len(values)} bands that differ; a mask has one, with a class number a pixel")
    numbers = values[0]
    if numbers.dtype.kind == "f":
        hidden = ~np.isfinite(numbers)
        if not (hidden | (numbers == np.round(numbers))).all():
            raise Unusable("type of values", "fractions; a mask holds whole class numbers")
        numbers = np.where(hidden, -1, numbers)
    hidden = numbers < 0 if valid is None else (numbers < 0) | ~valid
    if (largest := int(numbers.max(initial=0, where=~hidden))) > IGNORED:
        raise Unusable("class number", f"{largest}; at most 254, and 255 for none")
    return Mask(np.where(hidden, IGNORED, numbers).astype(np.uint8), bool(hidden.any()))
