"""Stage: a folder or a collection -> the tile store, with labels and splits.

A killed packing continues where it stopped.
"""

import hashlib
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Real

from gcl_custom.console import in_bytes, plain, progress, say, warn
from gcl_custom.errors import UserError
from gcl_custom.files import read_json, write_json, write_text
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.collections.collection_names import is_there
from gcl_custom.imagery.collections.open_collections import holding, state_of
from gcl_custom.imagery.decoding import NODATA, UNREAD, Form, Unusable, reading
from gcl_custom.imagery.folders import FoundTile, Layout, common_form, layout_of
from gcl_custom.imagery.mask_files import digest_of, mask_states, read_labels
from gcl_custom.imagery.packing_journal import PackingJournal, Record, packed
from gcl_custom.imagery.places.coordinates import to_keep
from gcl_custom.imagery.places.near_duplicates import difference_hashes, near_pairs
from gcl_custom.imagery.read_tile import excess, in_kinds, on_earth, read_tile, remarks, without_data
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import (
    Division,
    divide,
    listed,
    missing_splits,
    of_alike,
    of_twins,
    places_of,
    told,
    twins,
)
from gcl_custom.imagery.tile_store import INDEX, PIXELS, SPLITS, TileStore
from gcl_custom.imagery.values.bands import is_rgb
from gcl_custom.imagery.values.scaling import edges
from gcl_custom.imagery.values.summary import lacking, of_a_file, require_values, scaling_in_words, share_lacking
from gcl_custom.recipe.file import band_names, load_card
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

UNUSABLE, DUPLICATES = "unusable.txt", "duplicates.txt"
HASHED = 64
"""Tiles that are read at a time for near duplicates."""
BLOCK_BYTES = 64 * 2**20
BLOCK_TILES = 256


def pack_tiles(run: Run) -> None:
    """Pack the tiles of a run. After a change of the files, read only those that changed.

    Once something was made from the tiles, they stay as they are until --redo asks for the present files. So what is
    finished stays usable whatever becomes of the files.

    Raises:
        UserError: the root is missing or empty, too many files are unusable, or a split has no tile.
    """
    stage, data = plan.tiles(run), run.recipe.data
    news = changed(run)
    if stage.done and news is None:
        say(f"tiles: done before, in {stage.path}")
        return
    if stage.done:
        if run.uses(stage) and not run.redo:
            warn(
                f"{news}. Run {run.name} goes on with the tiles that it has. A new run takes the present files: "
                f"gcl-custom run {shlex.quote(str(run.path / 'recipe.yaml'))} --run NEW_NAME. Or add --redo, which "
                f"replaces what was made from the old ones"
            )
            return
        say(f"tiles: {news}; only what changed is read")
    root = Path(data.root)
    if data.synthetic:
        synthetic_scenes.draw(root, data.synthetic)
    card = load_card(data.card) if data.card else None
    layout = layout_of(data, card)
    # Nothing was made from an unfinished packing, so after an error it may begin again with other settings.
    stage.redo = stage.redo or not (stage.path / "stage.json").is_file()
    stage.begin()
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.tiles, band_names(data), data.use_bands)
        require_values(form, data)
        journal = PackingJournal(stage.path, form, data)
        _fill(journal, root, layout.tiles, form, data, stage)
    usable = _usable(journal, layout.tiles, root, data, stage.path)
    index, division = _index(journal, usable, layout, form, data, stage.path)
    empty = sum(journal.records[tile.source].kind == NODATA for tile in layout.tiles)
    write_json(stage.path / INDEX, index)
    digests = [journal.records[tile.source].digest for tile in usable]
    if layout.splits and (missing := missing_splits(layout.tiles)):
        warn(f"no folder gives the {' and the '.join(missing)} split: drawn from train by data.split")
    if copies := twins([tile.source for tile in usable], digests, index["split"]):
        warn(of_twins(copies))
    for note in division.notes:
        warn(note)
    alike = _near_duplicates(TileStore(stage.path), digests)
    if alike:
        warn(of_alike(alike))
    write_text(stage.path / DUPLICATES, listed(copies, alike))
    without = [journal.records[tile.source].lacking for tile in usable]
    for note in lacking(without, form):
        warn(note)
    counts = {name: index["split"].count(code) for code, name in enumerate(SPLITS)}
    stage.finish(
        content=_content(digests, index, digest_of(stage.path) if layout.kind.dense else ""),
        listing=_listing(root, layout),
        tiles=counts,
        classes=index["classes"],
        bands=form.bands,
        dtype=form.dtype,
        unusable=len(layout.tiles) - len(usable) - empty,
        nodata=empty,
        split=division.how,
        **({"groups": division.groups} if division.groups else {}),
        values_without_data=share_lacking(without),
        duplicates_across_splits=sum(map(len, copies)),
        near_duplicates_across_splits=len({source for pair in alike for source in pair}),
    )
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    classes = f"{len(index['classes'])} classes" if index["classes"] else "no labels"
    say(told(run))
    say(
        f"tiles: {len(usable):,} of {data.size} px, {form.bands} bands of {form.dtype}{of_a_file(form)}, {classes}; "
        f"{shown}"
    )
    for line in scaling_in_words(form, index["low"], index["high"]):
        say(line)


def changed(run: Run) -> str | None:
    """Say how the files differ, by path, size and time of change, from those that were packed; None if they do not.

    A missing root does not count as a change, because later stages read packed tiles only.
    """
    stage, data, root = plan.tiles(run), run.recipe.data, Path(run.recipe.data.root)
    if not stage.done or not is_there(root):
        return None
    try:
        layout = layout_of(data, load_card(data.card) if data.card else None)
    except UserError as error:
        return f"the files in {root} have changed since they were packed, and could not be packed again ({error})"
    if _listing(root, layout) == stage.facts["listing"]:
        return None
    return f"the files in {root} have changed since they were packed: {_differences(stage.path, root, layout.tiles)}"


def _differences(folder: Path, root: Path, tiles: Sequence[FoundTile]) -> str:
    """How many files were added, altered and taken away since a store was packed."""
    before = set(read_json(folder / INDEX)["files"])
    records, counts = packed(folder), Counter[str]()
    for tile in tiles:
        record = records.get(tile.source)
        if record is None or (record.slot is not None and str(tile.source) not in before):
            counts["added"] += 1
        elif record.state != _state(root, tile.source):
            counts["altered"] += 1
    counts["gone"] = len(before - {str(tile.source) for tile in tiles})
    return ", ".join(f"{count:,} {how}" for how, count in counts.items() if count) or "other labels or splits"


def _fill(
    journal: PackingJournal, root: Path, tiles: Sequence[FoundTile], form: Form, data: DataSettings, stage: Stage
) -> None:
    pending = []
    for tile in tiles:
        known = journal.records.get(tile.source)
        if known is None or known.kind == UNREAD or known.state != _state(root, tile.source):
            pending.append(tile.source)
    if pending and (inside := holding(root, pending[0].path)):
        pending.sort(key=lambda source: inside.place(source.path))
    needed, free = len(pending) * journal.tile_bytes, shutil.disk_usage(stage.path).free
    if needed > free:
        raise UserError(
            f"{stage.path}: {len(pending):,} tiles need {in_bytes(needed)}, and {in_bytes(free)} are free. "
            f"Make room, choose another place with --runs, or lower data.size"
        )
    length = max(1, min(BLOCK_TILES, BLOCK_BYTES // journal.tile_bytes))
    pack = partial(_packed, root=root, form=form, data=data, digests=journal.digests)
    with ThreadPoolExecutor() as pool, progress(len(tiles), "packing tiles") as bar:
        bar.advance(len(tiles) - len(pending))
        for start in range(0, len(pending), length):
            block = pending[start : start + length]
            journal.append(list(pool.map(pack, block)))
            stage.tick()
            bar.advance(len(block))


def _packed(
    source: Source, root: Path, form: Form, data: DataSettings, digests: dict[str, Record]
) -> tuple[Record, Real[np.ndarray, "c h w"] | None]:
    """The record of a source, and its pixels if they are new."""
    state = _state(root, source)
    found = read_tile(root, source, form, data)
    record = Record(source, *state, found.digest(), None)
    if record.digest in digests:
        return record, None
    tile = found.tile()
    if isinstance(tile, Unusable):
        return record._replace(kind=tile.kind, detail=tile.detail), None
    record = record._replace(grey=tile.grey, alpha=tile.alpha, scene=tile.scene, lacking=tile.lacking)
    record = record._replace(place=on_earth(found.place()))
    return record, tile.pixels


def _state(root: Path, source: Source) -> tuple[int, int]:
    """Size and time of change of the source's file, or of the collection's file that it lies in."""
    inside = holding(root, source.path)
    return state_of(inside.file_of(source.path) if inside else root / source.path)


def _usable(
    journal: PackingJournal, tiles: Sequence[FoundTile], root: Path, data: DataSettings, folder: Path
) -> list[FoundTile]:
    """The tiles that could be read. The others are listed.

    Raises:
        UserError: too many cannot be used, or hold too little data.
    """
    usable = [tile for tile in tiles if journal.records[tile.source].slot is not None]
    bad = [record for tile in tiles if (record := journal.records[tile.source]).slot is None]
    lines = [f"{plain(str(record.source))}\t{Unusable(record.kind, record.detail)}" for record in bad]
    write_text(folder / UNUSABLE, "".join(f"{line}\n" for line in lines))
    kinds = [record.kind for record in bad]
    reasons = list(excess(kinds, len(tiles), data))
    if reasons or not usable:
        why = ". ".join(reasons) or "no file has a tile"
        examples = "\n".join(f"  {line}".replace("\t", ": ") for line in lines[:5])
        raise UserError(
            f"{root}: {why}.\n{examples}\nAll are listed in {folder / UNUSABLE}. Mend or remove them, change the "
            f"settings that their reasons name, or raise the limit"
        )
    empty = kinds.count(NODATA)
    if unusable := len(bad) - empty:
        shown = in_kinds(kinds)
        warn(f"{unusable} of {len(tiles)} files are unusable and left out ({shown}): {folder / UNUSABLE}")
    if empty:
        warn(without_data(empty, len(tiles), data))
    for note in remarks(journal.records[tile.source] for tile in usable):
        warn(note)
    return usable


def _index(
    journal: PackingJournal,
    usable: list[FoundTile],
    layout: Layout,
    form: Form,
    data: DataSettings,
    folder: Path,
) -> tuple[dict[str, Any], Division]:
    """The contents of tiles.json, and how the tiles were divided."""
    with reading():
        classes, labels = read_labels(Path(data.root), layout, usable, data, folder)
    for name in layout.classes:
        if name not in classes:
            warn(f"class {name}: no usable tile in the train split, so it is left out")
    places = places_of(usable, {tile.source: journal.records[tile.source].place for tile in usable})
    division = divide(usable, labels, layout.kind, data, places)
    split = division.split
    slots = [journal.records[tile.source].slot for tile in usable]
    train = [slot for slot, code in zip(slots, split.tolist(), strict=True) if code == 0 and slot is not None]
    pixels = np.memmap(folder / PIXELS, dtype=form.dtype, mode="r").reshape(-1, form.bands, data.size, data.size)
    low, high = edges(pixels, train, form, data.scaling)
    index = {
        **form.entries(),
        "size": data.size,
        "rgb": is_rgb(form),
        "low": low,
        "high": high,
        "classes": classes,
        "files": [str(tile.source) for tile in usable],
        "slots": slots,
        **layout.kind.entries(labels),
        "split": split.tolist(),
    }
    if (kept := to_keep(places)) is not None:
        index["places"] = kept
    if division.blocks is not None:
        index["blocks"] = division.blocks.tolist()
    return index, division


def _near_duplicates(store: TileStore, digests: Sequence[str]) -> list[tuple[Source, Source]]:
    """Pairs of tiles in different splits that show nearly the same picture, without exact copies."""
    parts = [difference_hashes(store.read(part)) for part in torch.arange(len(store)).split(HASHED)]
    hashes, telling = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    pairs = near_pairs(hashes, telling, store.split.numpy()).tolist()
    return [(store.sources[one], store.sources[other]) for one, other in pairs if digests[one] != digests[other]]


def _content(digests: Sequence[str], index: dict[str, Any], masks: str) -> str:
    """Digest of all that later stages see: sources, their digests, labels, masks and splits."""
    seen = [index["files"], digests, index["classes"], index["labels"], index["split"]]
    text = json.dumps([*seen, masks] if masks else seen)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _listing(root: Path, layout: Layout) -> str:
    """Digest of sources, their splits and labels, and the files' sizes and times of change."""
    seen = [((str(tile.source), tile.split, tile.label), _state(root, tile.source)) for tile in layout.tiles]
    text = json.dumps([*seen, *mask_states(root, layout)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
