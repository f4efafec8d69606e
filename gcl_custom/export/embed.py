"""Stage: a folder or a collection of images -> their representations by a backbone of a run, and their places on earth.

    n  usable tiles     d  width of the backbone

Files are decoded, resized and scaled as when the run's tiles were packed. They pass through the network in fp32,
whatever hardware.precision says, so representations are those of the exported network. The linear probe of a comparison
sees them in the recipe's precision; bf16 moves them by up to 2 %, and scores by as little.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float

from gcl_custom import console
from gcl_custom.arrays import save_array
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.evaluation.inference import INFERENCE_BATCH
from gcl_custom.export import backbone_of_run
from gcl_custom.export.embedded_table import Table, arrow
from gcl_custom.files import require_free, write_atomically, write_text
from gcl_custom.imagery.collections.folder_walk import suffixes, walk
from gcl_custom.imagery.collections.open_collections import collection_at, is_of_arrays
from gcl_custom.imagery.decoding import Tile, Unusable, reading
from gcl_custom.imagery.left_out import remarks
from gcl_custom.imagery.read_tile import Read, cut, read_all
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import tensor_of
from gcl_custom.imagery.values.summary import lacking
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs.run import Run
from gcl_custom.training.launched import sent, shared

FORMATS = (".parquet", ".npy")
ROWS = 2**12
"""Rows of a group in Parquet: a group is encoded in memory as a whole."""
EXAMPLES = 5
"""Number of unusable files that a message names."""


class Seen(NamedTuple):
    """A source, its tile or the reason why it has none, and its place if it is known."""

    source: Source
    tile: Tile | Unusable
    place: Place | None


def embed(
    run: Run, folder: Path, out: Path, arm: str = "gcl", seed: int | None = None, overwrite: bool = False
) -> None:
    """Write the representations of all images below ``folder`` to ``out``, and a list of unusable files beside it.

    A ``.parquet`` has the columns file, representation (d floats), x, y, crs, longitude, latitude and geometry, and is
    a GeoParquet file. A ``.npy`` holds the array (n, d), and a ``.csv`` of the same name the other columns. All
    representations are held in memory until they are written: 4 n d bytes.

    Raises:
        UserError: there is no such backbone or no usable image, or ``out`` exists or is of another format.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: representations are written as {' or '.join(FORMATS)}; let it end so")
    for path in _written(out):
        require_free(path, overwrite)
    sources = _sources(folder, run.recipe.data)
    known = backbone_of_run.load_backbone(run, arm, seed)
    table, bad = _embed(known, folder, sources)
    _state_unusable(bad, sources, folder, out.with_name(f"{out.name}.unusable.txt"))
    if out.suffix == ".parquet":
        columns = arrow(table, known)
        with write_atomically(out, columns.nbytes) as part:
            pyarrow.parquet.write_table(columns, part, row_group_size=ROWS)
    else:
        _write_array(table, out)
    placed = sum(place is not None for place in table.places)
    console.say(
        f"{counted(len(table.sources), 'representation')} of {known.width} numbers by {known.architecture} "
        f"({known.arm}, seed "
        f"{known.seed}), {placed:,} with coordinates: {out}"
    )


def embedded(run: Run, folder: Path, arm: str = "gcl", seed: int | None = None) -> pa.Table:
    """The table that ``embed`` writes as Parquet; unusable files are named in a warning.

    Raises:
        UserError: no such backbone, no image, or no usable one.
    """
    sources = _sources(folder, run.recipe.data)
    known = backbone_of_run.load_backbone(run, arm, seed)
    table, bad = _embed(known, folder, sources)
    _state_unusable(bad, sources, folder)
    return arrow(table, known)


def _written(out: Path) -> list[Path]:
    return [out] if out.suffix == ".parquet" else [out, out.with_suffix(".csv")]


def _sources(folder: Path, data: DataSettings) -> list[Source]:
    scenes = data.scenes is not None
    if not (scenes and is_of_arrays(folder)) and (collection := collection_at(folder)):
        for note in collection.notes:
            console.warn(f"{folder}: {note}")
        return [Source(path) for path in collection.images]
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} (looked for from {Path.cwd()})")
    found = walk(folder, scenes=scenes)
    if not found.images:
        raise UserError(
            f"{folder} holds no image (other files: {found.others}). An image ends in "
            f"{' '.join(suffixes(scenes))}, and may lie in folders of any depth"
        )
    if found.closed:
        console.warn(f"{folder}: folders that cannot be opened, left out: {', '.join(found.closed)}")
    return cut(folder, found.images, data) if data.scenes else [Source(path) for path in found.images]


def _embed(
    known: backbone_of_run.TrainedBackbone, folder: Path, sources: Sequence[Source]
) -> tuple[Table, list[tuple[Source, Unusable]]]:
    """Embed the sources; return the table, and the unusable sources with their reasons."""
    representations = np.empty((len(sources), known.width), np.float32)
    usable: list[Source] = []
    places: list[Place | None] = []
    bad: list[tuple[Source, Unusable]] = []
    made: list[Tile] = []
    batches = [sources[first : first + INFERENCE_BATCH] for first in range(0, len(sources), INFERENCE_BATCH)]
    known = replace(known, network=sent(known.network))
    with console.progress(len(sources), "embedding") as bar:
        for seen, found in shared(partial(_represented, known, folder), batches):
            for source, tile, place in seen:
                if isinstance(tile, Unusable):
                    bad.append((source, tile))
                else:
                    made.append(tile)
                    usable.append(source)
                    places.append(place)
            representations[len(usable) - len(found) : len(usable)] = found
            bar.advance(len(seen))
    for note in (*remarks(made), *lacking([tile.lacking for tile in made], known.store.form)):
        console.warn(note)
    return Table(usable, places, representations[: len(usable)]), bad


def _represented(
    known: backbone_of_run.TrainedBackbone, folder: Path, batches: Sequence[Sequence[Source]]
) -> Iterator[tuple[list[Seen], Float[np.ndarray, "n d"]]]:
    """What was seen of each batch of sources, without the pixels, and the representations of those with a tile."""
    store = known.store
    read = read_all(folder, list(chain.from_iterable(batches)), store.form, known.run.recipe.data, _seen)
    with reading():
        for batch in batches:
            seen = list(islice(read, len(batch)))
            tiles = [one.tile.pixels for one in seen if isinstance(one.tile, Tile)]
            found = known.represent(tensor_of(np.stack(tiles))) if tiles else np.empty((0, known.width), np.float32)
            yield [_without_pixels(one) for one in seen], found


def _without_pixels(seen: Seen) -> Seen:
    if isinstance(seen.tile, Unusable):
        return seen
    return seen._replace(tile=seen.tile._replace(pixels=seen.tile.pixels[:, :0].copy()))


def _seen(found: Read) -> Seen:
    source = found.source
    path = source.path.encode(errors="backslashreplace").decode()
    tile = found.tile()
    return Seen(source._replace(path=path), tile, None if isinstance(tile, Unusable) else found.place())


def _state_unusable(
    bad: Sequence[tuple[Source, Unusable]], sources: Sequence[Source], folder: Path, listing: Path | None = None
) -> None:
    """Tell the user how many files are unusable, and list them in a file or, without one, name the first.

    Raises:
        UserError: no file is usable.
    """
    if not bad:
        if listing:
            listing.unlink(missing_ok=True)  # of an earlier output
        return
    count, what = len(sources), "windows" if any(source.window for source in sources) else "files"
    lines = [f"{source}\t{problem}" for source, problem in bad]
    summary = ", ".join(f"{n} {kind}" for kind, n in Counter(problem.kind for _, problem in bad).most_common())
    examples = "\n".join(f"  {line}".replace("\t", ": ") for line in lines[:EXAMPLES])
    if len(bad) == count:
        raise UserError(f"No {what[:-1]} in {folder} can be used ({summary}).\n{examples}")
    if listing:
        write_text(listing, "".join(f"{line}\n" for line in lines))
    where = listing or f"\n{examples}"
    are = either(len(bad), "is", "are")
    console.warn(f"{len(bad)} of {count} {what} {are} unusable and left out ({summary}): {where}")


def _write_array(table: Table, out: Path) -> None:
    """Write both files, or neither where one finds the disk full."""
    listing = out.with_suffix(".csv")
    with write_atomically(listing) as part:
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", *Place._fields])
            rows.writerows(
                [source, *(place or [None] * len(Place._fields))]
                for source, place in zip(table.sources, table.places, strict=True)
            )
        save_array(out, table.representations)
