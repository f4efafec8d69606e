"""The table of representations: a row for each tile, with its place on earth.

n  tiles     d  width of the backbone
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gcl_custom.export import geoparquet
from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.source import Source


class Table(NamedTuple):
    """Sources, where they lie, and what the backbone says of them."""

    sources: Sequence[Source]
    places: Sequence[Place | None]
    representations: Float[np.ndarray, "n d"]


def arrow(table: Table, known: TrainedBackbone) -> pa.Table:
    """The table with a type for each column, and in its metadata what made it."""
    found, box = columns(table)
    return found.replace_schema_metadata(metadata(known, box))


def metadata(known: TrainedBackbone, box: geoparquet.Box | None) -> dict[str, str]:
    """What made a table, and where its points lie."""
    return {"gcl_custom": json.dumps(known.about()), "geo": geoparquet.about(box)}


def columns(table: Table) -> tuple[pa.Table, geoparquet.Box | None]:
    """The table with a type for each column, without metadata, and the box around its points."""
    row = pa.list_(pa.field("element", pa.float32()), table.representations.shape[1])  # the name that Parquet gives it
    found = {
        "file": pa.array(map(str, table.sources), pa.string()),
        "representation": pa.FixedSizeListArray.from_arrays(pa.array(table.representations.reshape(-1)), type=row),
    }
    for name in Place._fields:
        values = [getattr(place, name) if place else None for place in table.places]
        found[name] = pa.array(values, pa.string() if name == "crs" else pa.float64())
    found["geometry"], box = geoparquet.points(table.places)
    return pa.table(found), box
