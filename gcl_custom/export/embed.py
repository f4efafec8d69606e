"""Stage: a folder or a collection of images -> their representations by a backbone of a run, and their places on earth.

    n  usable tiles     d  width of the backbone

Files are decoded, resized and scaled as when the run's tiles were packed. They pass through the network in fp32,
whatever hardware.precision says, so representations are those of the exported network. The linear probe of a comparison
sees them in the recipe's precision; bf16 moves them by up to 2 %, and scores by as little.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gcl_custom import console
from gcl_custom.arrays import Texts
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.evaluation.inference import INFERENCE_BATCH
from gcl_custom.export import backbone_of_run
from gcl_custom.export.embedded_files import Add, writing_to, written
from gcl_custom.export.embedded_table import Table, columns, metadata
from gcl_custom.export.geoparquet import Box, around
from gcl_custom.files import require_free, write_text
from gcl_custom.imagery.collections.folder_walk import suffixes, walk
from gcl_custom.imagery.collections.open_collections import collection_at, is_of_arrays
from gcl_custom.imagery.decoding import Tile, Unusable, reading
from gcl_custom.imagery.layouts import pair_masks, without_thumbnails
from gcl_custom.imagery.left_out import remarks
from gcl_custom.imagery.read_tile import Read, cut, read_all
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.source import Source, Sources
from gcl_custom.imagery.tile_store import tensor_of
from gcl_custom.imagery.values.summary import lacking
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs.run import Run
from gcl_custom.training.launched import sent, shared

FORMATS = (".parquet", ".npy")
EXAMPLES = 5
"""Number of unusable files that a message names."""


class Flags(NamedTuple):
    """What a reader should hear of a tile."""

    grey: bool
    alpha: bool
    scene: bool


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
    a GeoParquet file. A ``.npy`` holds the array (n, d), and a ``.csv`` of the same name the other columns. Rows are
    written as they are computed, and the file is there when it is whole.

    Raises:
        UserError: there is no such backbone or no usable image, or ``out`` exists or is of another format.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: representations are written as {' or '.join(FORMATS)}; let it end so")
    for path in written(out):
        require_free(path, overwrite)
    sources = _sources(folder, run.recipe.data)
    known = backbone_of_run.load_backbone(run, arm, seed)
    with writing_to(out, known, len(sources)) as add:
        count, placed, bad = _embed(known, folder, sources, add)
        _state_unusable(bad, sources, folder, out.with_name(f"{out.name}.unusable.txt"))
    console.say(
        f"{counted(count, 'representation')} of {known.width} numbers by {known.architecture} "
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
    parts: list[pa.Table] = []
    box: Box | None = None

    def add(table: Table) -> None:
        nonlocal box
        part, its_box = columns(table)
        parts.append(part)
        box = around(box, its_box)

    _, _, bad = _embed(known, folder, sources, add)
    _state_unusable(bad, sources, folder)
    return pa.concat_tables(parts).combine_chunks().replace_schema_metadata(metadata(known, box))


def _sources(folder: Path, data: DataSettings) -> Sources:
    scenes = data.scenes is not None
    if not (scenes and is_of_arrays(folder)) and (collection := collection_at(folder)):
        for note in collection.notes:
            console.warn(f"{folder}: {note}")
        return Sources(Texts.of(_images(folder, list(collection.images), data)))
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
    images = _images(folder, found.images, data)
    return Sources(Texts.of(map(str, cut(folder, images, data)) if data.scenes else images))


def _images(folder: Path, paths: Sequence[str], data: DataSettings) -> list[str]:
    """The images without thumbnails, nor masks that lie beside them, which packing takes for no tiles either."""
    images, _ = without_thumbnails(paths)
    if data.labels is None:
        named = data.masks and f"/{data.masks.strip('/')}/"
        there = named if named and any(named in f"/{path}" for path in images) else None
        pairs = pair_masks(images, there)
        images = pairs.images if pairs else images
    if len(images) < len(paths):
        console.say(f"{folder}: masks and thumbnails, passed over: {len(paths) - len(images):,}")
    return images


def _embed(
    known: backbone_of_run.TrainedBackbone, folder: Path, sources: Sources, add: Add
) -> tuple[int, int, list[tuple[Source, Unusable]]]:
    """Embed the sources, and add the rows of each batch.

    Returns:
        The number of rows, the number of those with a place, and the unusable sources with their reasons.
    """
    placed = 0
    bad: list[tuple[Source, Unusable]] = []
    flags, shares = Counter[Flags](), list[tuple[float, ...]]()
    numbers = range(len(sources))
    batches = [numbers[first : first + INFERENCE_BATCH] for first in numbers[::INFERENCE_BATCH]]
    known = replace(known, network=sent(known.network))
    with console.progress(len(sources), "embedding") as bar:
        for seen, found in shared(partial(_represented, known, folder, sources), batches):
            usable, places = list[Source](), list[Place | None]()
            for source, tile, place in seen:
                if isinstance(tile, Unusable):
                    bad.append((source, tile))
                    continue
                usable.append(source)
                places.append(place)
                flags[Flags(tile.grey, tile.alpha, tile.scene)] += 1
                shares.append(tile.lacking)
            placed += sum(place is not None for place in places)
            add(Table(usable, places, found))
            bar.advance(len(seen))
    for note in (*remarks(flags.elements(), known.run.recipe.data), *lacking(shares, known.store.form)):
        console.warn(note)
    return len(shares), placed, bad


def _represented(
    known: backbone_of_run.TrainedBackbone, folder: Path, sources: Sources, batches: Sequence[range]
) -> Iterator[tuple[list[Seen], Float[np.ndarray, "n d"]]]:
    """What was seen of each batch of sources, without the pixels, and the representations of those with a tile."""
    store = known.store
    asked = (sources[number] for batch in batches for number in batch)
    read = read_all(folder, asked, store.form, known.run.recipe.data, _seen)
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
