"""Stage: a folder of images -> the representation of each by a backbone of a run, and its place on earth.

    n  usable files     d  width of the backbone

Files are decoded, resized and scaled like the run's own tiles, and go through the network as for the linear probe. So a
classifier of these representations scores what the comparison reports.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.evaluation.inference import INFERENCE_BATCH, infer_batch
from gcl_custom.export import backbone_of_run
from gcl_custom.files import require_free, write_atomically
from gcl_custom.imagery.decoding import Form, Place, Tile, Unusable, place_of, reading, tile_from
from gcl_custom.imagery.folders import SUFFIXES, walk
from gcl_custom.imagery.tile_store import tensor_of
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs.run import Run

FORMS = (".parquet", ".npy")
EXAMPLES = 5
"""Number of unusable files that a message names."""


class Seen(NamedTuple):
    """A file, relative to the folder, its tile or the reason why there is none, and its place where it has one."""

    file: str
    tile: Tile | Unusable
    place: Place | None


class Table(NamedTuple):
    """What was embedded, a row for each file in the order of the paths."""

    files: list[str]
    places: list[Place | None]
    representations: Float[np.ndarray, "n d"]


def embed(
    run: Run, folder: Path, out: Path, arm: str = "gcl", seed: int | None = None, overwrite: bool = False
) -> None:
    """Write the representations of all images below ``folder`` to ``out``, and what could not be read beside it.

    ``.parquet``: columns file, representation (d floats), x, y, crs, longitude, latitude. ``.npy``: the array (n, d),
    and the other columns in a ``.csv`` of the same name. Held in memory as float32 until they are written: 4 n d bytes.

    Raises:
        UserError: no such backbone, no image, no usable one, or ``out`` is taken or of another format.
    """
    if out.suffix not in FORMS:
        raise UserError(f"--out {out}: representations are written as {' or '.join(FORMS)}; let it end so")
    for path in _written(out):
        require_free(path, overwrite)
    files = _images(folder)
    known = backbone_of_run.load_backbone(run, arm, seed)
    table, bad = _embed(known, folder, files)
    _state_unusable(bad, len(files), folder, out.with_name(f"{out.name}.unusable.txt"))
    if out.suffix == ".parquet":
        with write_atomically(out) as part:
            pyarrow.parquet.write_table(_arrow(table, known), part)
    else:
        _write_array(table, out)
    placed = sum(place is not None for place in table.places)
    console.say(
        f"{len(table.files):,} representations of {known.width} numbers by {known.architecture} ({known.arm}, seed "
        f"{known.seed}), {placed:,} with coordinates: {out}"
    )


def embedded(run: Run, folder: Path, arm: str = "gcl", seed: int | None = None) -> pa.Table:
    """The table that ``embed`` writes as Parquet; unusable files are named in a warning.

    Raises:
        UserError: no such backbone, no image, or no usable one.
    """
    files = _images(folder)
    known = backbone_of_run.load_backbone(run, arm, seed)
    table, bad = _embed(known, folder, files)
    _state_unusable(bad, len(files), folder)
    return _arrow(table, known)


def _written(out: Path) -> list[Path]:
    return [out] if out.suffix == ".parquet" else [out, out.with_suffix(".csv")]


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} (looked for from {Path.cwd()})")
    files, others = walk(folder)
    if not files:
        raise UserError(
            f"{folder} holds no image (other files: {others}). An image ends in {' '.join(SUFFIXES)}, and may lie in "
            f"folders of any depth"
        )
    return files


def _embed(
    known: backbone_of_run.TrainedBackbone, folder: Path, files: Sequence[str]
) -> tuple[Table, list[tuple[str, Unusable]]]:
    """The table, and what could not be read with its reason."""
    recipe, store = known.run.recipe, known.store
    representations = np.empty((len(files), known.width), np.float32)
    names: list[str] = []
    places: list[Place | None] = []
    bad: list[tuple[str, Unusable]] = []
    read = partial(_read, folder, Form(store.bands, store.dtype), recipe.data)
    with reading(), console.progress(len(files), "embedding") as bar:
        for batch in _read_ahead(files, read):
            tiles = []
            for file, tile, place in batch:
                if isinstance(tile, Unusable):
                    bad.append((file, tile))
                else:
                    tiles.append(tile.pixels)
                    names.append(file)
                    places.append(place)
            if tiles:
                found = infer_batch(known.network, store, tensor_of(np.stack(tiles)), recipe.hardware)
                representations[len(names) - len(tiles) : len(names)] = found.cpu().numpy()
            bar.advance(len(batch))
    return Table(names, places, representations[: len(names)]), bad


def _read_ahead(files: Sequence[str], read: "partial[Seen]") -> Iterator[list[Seen]]:
    """Batches of files, read by threads, the next one while the network works on this one."""
    batches = [files[start : start + INFERENCE_BATCH] for start in range(0, len(files), INFERENCE_BATCH)]
    with ThreadPoolExecutor() as pool:
        ahead = pool.map(read, batches[0])
        for batch in [*batches[1:], []]:
            now, ahead = ahead, pool.map(read, batch)
            yield list(now)


def _read(folder: Path, form: Form, data: DataSettings, file: str) -> Seen:
    if (text := file.encode(errors="backslashreplace").decode()) != file:
        return Seen(text, Unusable("name is not UTF-8"), None)
    try:
        content = (folder / file).read_bytes()
        return Seen(file, tile_from(content, form, data.size, data.upscale, data.nodata), place_of(content))
    except OSError as error:
        return Seen(file, Unusable("cannot be opened", str(error.strerror)), None)
    except Unusable as problem:
        return Seen(file, problem, None)


def _state_unusable(bad: Sequence[tuple[str, Unusable]], count: int, folder: Path, listing: Path | None = None) -> None:
    """Say how many files have no tile, and list them in a file of their own or, without one, name the first.

    Raises:
        UserError: no file has one.
    """
    if not bad:
        if listing:
            listing.unlink(missing_ok=True)  # of an output that was there before
        return
    lines = [f"{file}\t{problem}" for file, problem in bad]
    summary = ", ".join(f"{n} {kind}" for kind, n in Counter(problem.kind for _, problem in bad).most_common())
    examples = "\n".join(f"  {line}".replace("\t", ": ") for line in lines[:EXAMPLES])
    if len(bad) == count:
        raise UserError(f"None of the {count} files in {folder} can be used ({summary}).\n{examples}")
    if listing:
        with write_atomically(listing) as part:
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    where = listing or f"\n{examples}"
    console.warn(f"{len(bad)} of {count} files are unusable and left out ({summary}): {where}")


def _arrow(table: Table, known: backbone_of_run.TrainedBackbone) -> pa.Table:
    """The table with a type for each column, and in its metadata what made it."""
    row = pa.list_(pa.field("element", pa.float32()), table.representations.shape[1])  # the name that Parquet gives it
    columns = {
        "file": pa.array(table.files, pa.string()),
        "representation": pa.FixedSizeListArray.from_arrays(pa.array(table.representations.reshape(-1)), type=row),
    }
    for name in Place._fields:
        values = [getattr(place, name) if place else None for place in table.places]
        columns[name] = pa.array(values, pa.string() if name == "crs" else pa.float64())
    return pa.table(columns).replace_schema_metadata({"gcl_custom": json.dumps(known.about())})


def _write_array(table: Table, out: Path) -> None:
    with write_atomically(out.with_suffix(".csv")) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *Place._fields])
        rows.writerows(
            [name, *(place or [None] * len(Place._fields))]
            for name, place in zip(table.files, table.places, strict=True)
        )
    with write_atomically(out) as part, part.open("wb") as file:
        np.save(file, table.representations)
