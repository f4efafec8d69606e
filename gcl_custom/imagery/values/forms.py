"""The form of a data set, decoded pixels, and the reasons why a file has none.

c  bands     h w  pixels of a file
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Real

TileType = Literal["uint8", "uint16", "int16", "float32"]
READ: dict[str, TileType] = {
    "uint8": "uint8",
    "uint16": "uint16",
    "int16": "int16",
    "float32": "float32",
    "float64": "float32",
}
"""Types of values that are read, and the type that their tiles have."""
MOST = 1e30
"""Floats as large as this are no measurements: libraries fill with 9.97e36 (netCDF) or 3.4e38 (GDAL)."""

UNREAD = "cannot be opened"
"""The kind of a file that the system does not let be read."""
NODATA = "nodata"
"""The kind of a file with too little data. Nothing is wrong with it: it may lie at the border of a scene."""


class Unusable(Exception):  # noqa: N818  says what the source is
    """A source that cannot become a tile: ``kind`` groups equal problems, ``detail`` is about this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} ({detail})" if detail else kind)
        self.kind, self.detail = kind, detail


class Choice(NamedTuple):
    """Which bands of a file make a tile."""

    numbers: tuple[int, ...]
    """Their numbers in the file, from 1, in the order of the tile."""
    of: int
    """Number of bands that a file must have."""
    called: tuple[str, ...] | None
    """What a file must call its bands, where they were chosen by the files' own names."""


class Form(NamedTuple):
    """What all tiles of a store have in common, apart from their size."""

    bands: int
    """Of a tile."""
    dtype: TileType
    names: tuple[str, ...] | None = None
    """Of a tile's bands; None if nothing names them."""
    choice: Choice | None = None
    """None: all bands of a file, in their order."""
    fill: float | None = None
    """Value without data, beside what a file says of its own."""

    @property
    def of_file(self) -> int:
        """Number of bands that a file must have."""
        return self.choice.of if self.choice else self.bands

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number in a file, from 1, of each band of a tile."""
        return self.choice.numbers if self.choice else tuple(range(1, self.bands + 1))

    @property
    def labels(self) -> list[str]:
        """The name of each band, or else its number in a file."""
        return list(self.names or (f"band {number}" for number in self.numbers))

    def entries(self) -> dict[str, Any]:
        """The form for JSON, without what is None."""
        entries = {**self._asdict(), "choice": self.choice and self.choice._asdict()}
        return {name: value for name, value in entries.items() if value is not None}

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> "Form":
        """The form in a mapping that has its entries, and maybe others."""
        names, choice = entries.get("names"), entries.get("choice")
        called = choice and choice["called"]
        return cls(
            entries["bands"],
            entries["dtype"],
            tuple(names) if names else None,
            Choice(tuple(choice["numbers"]), choice["of"], tuple(called) if called else None) if choice else None,
            entries.get("fill"),
        )


class Picture(NamedTuple):
    """Decoded pixels. An alpha band is not among the bands; it says which pixels hold data."""

    pixels: Real[np.ndarray, "c h w"]
    """All of them finite, also where there is no data."""
    valid: Bool[np.ndarray, "h w"] | None
    """Whether a pixel holds data, in one band at least; None if all do."""
    alpha: bool
    """Whether there was an alpha band."""
    by_band: Bool[np.ndarray, "c h w"] | None = None
    """Whether a value holds data; None if this is the same in all bands."""


def require_count(bands: int, of_file: int) -> None:
    """Refuse a file that has another number of bands than the data set.

    Raises:
        Unusable: it has.
    """
    if bands != of_file:
        raise Unusable("number of bands", f"{bands}, the data set has {of_file}")


def unread(dtype: str) -> Unusable:
    """The reason for a file with values of a type that is not read."""
    return Unusable("type of values", f"{dtype}; only {', '.join(READ)} are read")


def is_no_measurement(nodata: float | None, dtype: TileType) -> bool:
    """Whether a nodata value cannot be the value of a band that holds data, such as -9999 can not."""
    return nodata is not None and (nodata < 0 or (dtype == "float32" and nodata != 0))


def missing(dtype: TileType) -> float:
    """What a tile holds where there is no data. It is the lowest value of its type, so it becomes 0 in every scaling.

    In float32 and int16 this is no measurement: GDAL and others take the same values for nodata. 0 would be a middling
    value of signed bands.
    """
    return float(np.finfo(dtype).min) if dtype.startswith("float") else float(np.iinfo(dtype).min)
