"""Places of tiles as GeoParquet 1.1 has them, so that geopandas, QGIS and DuckDB read a table with its points."""

import json
import math
import struct
from collections.abc import Sequence

import pyarrow as pa

from gcl_custom.imagery.scenes.places import Place

COLUMN = "geometry"
POINT = struct.Struct("<BIdd")
"""Well-known binary of a point: the order of the bytes (1: the lowest first), the kind (1), east, north."""


Box = tuple[float, float, float, float]
"""West, south, east and north of points."""


def points(places: Sequence[Place | None]) -> tuple[pa.BinaryArray, Box | None]:
    """The column ``geometry``, and the box around all points, if there are any.

    Each place is the point (longitude, latitude) of OGC:CRS84, which holds where no crs is stated. A tile without a
    place has no geometry.
    """
    known = [_on_earth(place) if place else None for place in places]
    wkb = [POINT.pack(1, 1, *at) if at else None for at in known]
    easts, norths = [at[0] for at in known if at], [at[1] for at in known if at]
    box = (min(easts), min(norths), max(easts), max(norths)) if easts else None
    return pa.array(wkb, pa.binary()), box


def around(one: Box | None, other: Box | None) -> Box | None:
    """The box around two boxes, either of which may be of no point."""
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def about(box: Box | None = None) -> str:
    """The text for the key ``geo``; without the box around all points, which a reader may do without."""
    column = {"encoding": "WKB", "geometry_types": ["Point"], **({"bbox": list(box)} if box else {})}
    return json.dumps({"version": "1.1.0", "primary_column": COLUMN, "columns": {COLUMN: column}})


def _on_earth(place: Place) -> tuple[float, float] | None:
    """(longitude, latitude), where both are numbers: a coordinate system may have no place on earth."""
    east, north = place.longitude, place.latitude
    if east is None or north is None or not (math.isfinite(east) and math.isfinite(north)):
        return None
    return east, north
