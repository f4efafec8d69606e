"""How a TIFF is to be turned. GDAL reads its pixels as they are stored, and does not say.

c  bands     h w  pixels as they are stored     y x  pixels of the upright picture
"""

import struct

import numpy as np
from jaxtyping import Shaped

TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
"""The tag that says it, in TIFF and in EXIF."""


def orientation_of(data: bytes) -> int:
    """How the bytes of a file are to be turned, 1 to 8 as in EXIF; 1, upright, for all but a TIFF that says so."""
    if not data.startswith(TIFFS):
        return 1
    order, big = "<" if data.startswith(b"II") else ">", b"+" in data[2:4]
    try:
        (tags,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, tags)
        first, length = (tags + 8, 20) if big else (tags + 2, 12)
        for place in range(first, min(first + count * length, len(data)), length):
            if struct.unpack_from(f"{order}H", data, place) == (ORIENTATION,):
                (found,) = struct.unpack_from(f"{order}H", data, place + length - (8 if big else 4))
                return found if found in range(1, 9) else 1
    except struct.error:
        pass  # the file ends too early, as its driver will say
    return 1


def upright(pixels: Shaped[np.ndarray, "c h w"], orientation: int) -> Shaped[np.ndarray, "c y x"]:
    """Turn and flip as EXIF's values 1 to 8 say."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(0, 2, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[:, ::rows, ::columns]
