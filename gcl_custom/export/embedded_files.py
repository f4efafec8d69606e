"""The files of representations, written as they are computed: memory does not grow with the number of tiles.

n  tiles     d  width of the backbone
"""

import base64
import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.export.embedded_table import Table, columns, metadata
from gcl_custom.export.geoparquet import around
from gcl_custom.files import write_atomically
from gcl_custom.imagery.scenes.places import Place

ROWS = 2**12
"""Rows of a group in Parquet: a group is encoded in memory as a whole."""
Add = Callable[[Table], None]
"""Adds rows to a file."""


def written(out: Path) -> list[Path]:
    """The files of representations that are written to ``out``."""
    return [out] if out.suffix == ".parquet" else [out, out.with_suffix(".csv")]


@contextmanager
def writing_to(out: Path, known: TrainedBackbone, most: int) -> Iterator[Add]:
    """Give what adds rows to the files of ``out``, which are there, whole, when the context ends without an error.

    Args:
        most: rows that there may be, for the message if there is no room.

    Raises:
        OSError: a file cannot be written.
    """
    kind = _parquet if out.suffix == ".parquet" else _array
    with kind(out, known, 4 * known.width * most) as add:
        yield add


@contextmanager
def _parquet(out: Path, known: TrainedBackbone, size: int) -> Iterator[Add]:
    """Row groups of ``ROWS`` rows. The metadata, with the box around all points, come last.

    Arrow keeps its schema among them, which has the same metadata once more, and from there its readers take them.
    """
    nothing = Table([], [], np.empty((0, known.width), np.float32))
    waiting, box = columns(nothing)
    with (
        write_atomically(out, size) as part,
        pyarrow.parquet.ParquetWriter(part, waiting.schema, store_schema=False) as writer,
    ):

        def add(table: Table) -> None:
            nonlocal waiting, box
            more, its_box = columns(table)
            waiting, box = pa.concat_tables([waiting, more]), around(box, its_box)
            while len(waiting) >= ROWS:
                writer.write_table(waiting.slice(0, ROWS), ROWS)
                waiting = waiting.slice(ROWS)

        yield add
        if len(waiting):
            writer.write_table(waiting, ROWS)
        about = metadata(known, box)
        schema = base64.b64encode(waiting.schema.with_metadata(about).serialize())
        writer.add_key_value_metadata({**about, "ARROW:schema": schema.decode()})


@contextmanager
def _array(out: Path, known: TrainedBackbone, size: int) -> Iterator[Add]:
    """The array (n, d), and a list of its rows beside it. Where one finds the disk full, neither is left."""
    count = 0
    with ExitStack() as stack:
        listed, part = (stack.enter_context(write_atomically(path, size)) for path in reversed(written(out)))
        file = stack.enter_context(listed.open("w", encoding="utf-8", newline=""))
        array = stack.enter_context(part.open("wb"))
        rows = csv.writer(file)
        rows.writerow(["file", *Place._fields])
        start = _write_header(array, (count, known.width))

        def add(table: Table) -> None:
            nonlocal count
            count += len(table.sources)
            array.write(table.representations.tobytes())
            rows.writerows(
                [source, *(place or [None] * len(Place._fields))]
                for source, place in zip(table.sources, table.places, strict=True)
            )

        yield add
        array.seek(0)
        # NumPy leaves room for a first dimension that grows.
        assert _write_header(array, (count, known.width)) == start


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> int:
    """Write the header of an .npy of fp32, and return its length."""
    about = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.tell()
