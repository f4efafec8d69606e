"""Stage: the files of a folder -> the tile store, with labels and splits. A killed packing goes on where it was."""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from gcl_custom.console import progress, say, warn
from gcl_custom.errors import UserError
from gcl_custom.files import write_atomically, write_json
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.decoding import Form, Tile, Unusable, reading, tile_from
from gcl_custom.imagery.folders import FoundFile, Layout, common_form, is_rgb, labels_of, layout_of
from gcl_custom.imagery.packing_journal import Archive, Record
from gcl_custom.imagery.splits import divide, missing_splits
from gcl_custom.imagery.tile_store import INDEX, PIXELS, SPLITS
from gcl_custom.recipe.file import load_card
from gcl_custom.recipe.imagery import Card, DataSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

UNUSABLE = "unusable.txt"
UNREAD = "cannot be opened"
BLOCK_BYTES = 64 * 2**20
BLOCK_FILES = 256
EDGE_SAMPLE = 2**24
"""Pixels of each band that decide which values become 0 and 1."""


def pack_tiles(run: Run) -> None:
    """Pack the tiles of a run, or only what changed since.

    Raises:
        UserError: the root is missing or empty, too many files are unusable, or a split would have no tile.
    """
    stage, data = plan.tiles(run), run.recipe.data
    news = changed(run)
    if stage.done and news is None:
        say(f"tiles: done before, in {stage.path}")
        return
    if stage.done:
        say(f"tiles: {news}; only what changed is read")
    root = Path(data.root)
    if data.synthetic:
        synthetic_scenes.draw(root, data.synthetic)
    card = load_card(data.card) if data.card else None
    layout = layout_of(data, card)
    # Nothing was made from an unfinished packing: after an error it may start again with the settings that mend it.
    stage.redo = stage.redo or not (stage.path / "stage.json").is_file()
    stage.begin()
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.files, card)
        archive = Archive(stage.path, form, data)
        _fill(archive, root, layout.files, form, data, stage)
    usable = _usable(archive, layout.files, root, data, stage.path)
    index = _index(archive, usable, layout, form, data, card, stage.path)
    write_json(stage.path / INDEX, index)
    if layout.splits and (missing := missing_splits(layout.files)):
        warn(f"no folder gives the {' and the '.join(missing)} split: drawn from train by data.split")
    counts = {name: index["split"].count(code) for code, name in enumerate(SPLITS)}
    stage.finish(
        content=_content(archive, index),
        listing=_listing(root, layout.files),
        tiles=counts,
        classes=index["classes"],
        bands=form.bands,
        dtype=form.dtype,
        unusable=len(layout.files) - len(usable),
        split="random" if missing_splits(layout.files) else "given by the table" if data.labels else "given by folders",
        duplicates_across_splits=_duplicates(archive, index),
    )
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    classes = f"{len(index['classes'])} classes" if index["classes"] else "no labels"
    say(f"tiles: {len(usable):,} of {data.size} px, {form.bands} bands of {form.dtype}, {classes}; {shown}")


def changed(run: Run) -> str | None:
    """How the files differ from those that were packed, by path, size and time of change; None where they do not.

    A root that is gone is no difference: later stages read the packed tiles only.
    """
    stage, data, root = plan.tiles(run), run.recipe.data, Path(run.recipe.data.root)
    if not stage.done or not root.is_dir():
        return None
    card = load_card(data.card) if data.card else None
    files = layout_of(data, card).files
    if _listing(root, files) == stage.facts["listing"]:
        return None
    before = json.loads((stage.path / INDEX).read_text(encoding="utf-8"))["files"]
    now = {file.path for file in files}
    added, gone = len(now.difference(before)), len(set(before) - now)
    return f"the files in {root} have changed ({added} not packed yet, {gone} gone, others newer or moved)"


def _fill(
    archive: Archive, root: Path, files: Sequence[FoundFile], form: Form, data: DataSettings, stage: Stage
) -> None:
    pending = []
    for file in files:
        known = archive.records.get(file.path)
        if known is None or known.kind == UNREAD or known.state != _state(root / file.path):
            pending.append(file.path)
    needed, free = len(pending) * archive.tile_bytes, shutil.disk_usage(stage.path).free
    if needed > free:
        raise UserError(
            f"{stage.path}: {len(pending):,} tiles need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free. "
            f"Make room, choose another place with --runs, or lower data.size"
        )
    length = max(1, min(BLOCK_FILES, BLOCK_BYTES // archive.tile_bytes))
    read = partial(_read, root=root, form=form, data=data, digests=archive.digests)
    with ThreadPoolExecutor() as pool, progress(len(files), "packing tiles") as bar:
        bar.advance(len(files) - len(pending))
        for start in range(0, len(pending), length):
            block = pending[start : start + length]
            archive.append(list(pool.map(read, block)))
            stage.tick()
            bar.advance(len(block))


def _read(
    path: str, root: Path, form: Form, data: DataSettings, digests: dict[str, Record]
) -> tuple[Record, UInt[np.ndarray, "c h w"] | None]:
    state = _state(root / path)
    try:
        content = (root / path).read_bytes()
    except OSError as error:
        # The reason belongs to the path, not to a content.
        return Record(path, *state, f"{UNREAD}: {path}", None, UNREAD, str(error.strerror)), None
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    record = Record(path, *state, digest, None)
    if digest in digests:
        return record, None
    try:
        tile: Tile = tile_from(content, form, data.size, data.upscale, data.nodata)
    except Unusable as problem:
        return record._replace(kind=problem.kind, detail=problem.detail), None
    return record._replace(grey=tile.grey, alpha=tile.alpha), tile.pixels


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _usable(
    archive: Archive, files: Sequence[FoundFile], root: Path, data: DataSettings, folder: Path
) -> list[FoundFile]:
    """The files with a tile; the others are listed, and too many of them end the run."""
    usable = [file for file in files if archive.records[file.path].slot is not None]
    bad = [record for file in files if (record := archive.records[file.path]).slot is None]
    lines = [f"{record.path}\t{Unusable(record.kind, record.detail)}" for record in bad]
    with write_atomically(folder / UNUSABLE) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    kinds = Counter(record.kind for record in bad)
    summary = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    if len(bad) > data.bad_files * len(files) or not usable:
        examples = "\n".join(f"  {line}".replace("\t", ": ") for line in lines[:5])
        raise UserError(
            f"{len(bad)} of {len(files)} files in {root} are unusable ({summary}); data.bad_files allows "
            f"{data.bad_files:.0%}.\n{examples}\nAll are listed in {folder / UNUSABLE}. Mend or remove them, change "
            f"the settings that their reasons name, or raise data.bad_files"
        )
    if bad:
        warn(f"{len(bad)} of {len(files)} files are unusable and left out ({summary}): {folder / UNUSABLE}")
    grey = sum(archive.records[file.path].grey for file in usable)
    alpha = sum(archive.records[file.path].alpha for file in usable)
    if grey:
        warn(f"{grey} greyscale files: the one band stands for red, green and blue")
    if alpha:
        warn(f"{alpha} files have an alpha band: it is dropped, and what it hides is nodata")
    return usable


def _index(
    archive: Archive,
    usable: list[FoundFile],
    layout: Layout,
    form: Form,
    data: DataSettings,
    card: Card | None,
    folder: Path,
) -> dict[str, Any]:
    """Everything that tiles.json says."""
    classes, labels = labels_of(usable, layout.classes, layout.kind)
    for name in layout.classes:
        if name not in classes:
            warn(f"class {name}: no usable tile in the train split, so it is left out")
    split = divide(usable, labels, layout.kind, data)
    slots = [archive.records[file.path].slot for file in usable]
    low, high = [0.0] * form.bands, [255.0] * form.bands
    if form.dtype == "uint16":
        train = [slot for slot, code in zip(slots, split.tolist(), strict=True) if code == 0 and slot is not None]
        low, high = edges(folder / PIXELS, train, form, data.size)
    return {
        "bands": form.bands,
        "dtype": form.dtype,
        "size": data.size,
        "rgb": is_rgb(card, form),
        "low": low,
        "high": high,
        "classes": classes,
        "files": [file.path for file in usable],
        "slots": slots,
        **layout.kind.entries(labels),
        "split": split.tolist(),
    }


def edges(path: Path, slots: list[int], form: Form, size: int) -> tuple[list[float], list[float]]:
    """The 0.1 and 99.9 percentiles of each band over the given tiles, without zeros, which may be nodata."""
    pixels = np.memmap(path, dtype=form.dtype, mode="r").reshape(-1, form.bands, size, size)
    step = -(-len(slots) * size * size // EDGE_SAMPLE)
    low, high = [], []
    for band in range(form.bands):
        values = pixels[sorted(slots)[::step], band]
        values = values[values > 0]
        bottom, top = np.percentile(values, [0.1, 99.9]) if len(values) else (0.0, 1.0)
        low.append(float(bottom))
        high.append(float(max(top, bottom + 1)))
    return low, high


def _content(archive: Archive, index: dict[str, Any]) -> str:
    """Digest of everything that later stages see: paths, contents, labels, splits."""
    digests = [archive.records[path].digest for path in index["files"]]
    text = json.dumps([index["files"], digests, index["classes"], index["labels"], index["split"]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _listing(root: Path, files: Sequence[FoundFile]) -> str:
    """Digest of paths, sizes and times of change."""
    text = json.dumps([(file, _state(root / file.path)) for file in files])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _duplicates(archive: Archive, index: dict[str, Any]) -> int:
    """Number of tiles whose very file is in another split, too: such tiles make test scores too good."""
    places: dict[str, list[int]] = defaultdict(list)
    for path, code in zip(index["files"], index["split"], strict=True):
        places[archive.records[path].digest].append(code)
    count = sum(len(codes) for codes in places.values() if len(set(codes)) > 1)
    if count:
        warn(f"{count} tiles are copies of one another in different splits: scores on them say too much")
    return count
