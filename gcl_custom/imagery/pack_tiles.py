"""Stage: a folder or a collection -> the tile store, with labels and splits.

A killed packing continues where it stopped.
"""

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Real
from torch import Tensor

from gcl_custom.console import in_bytes, plain, progress, say, warn
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.files import discard, file_digest, json_digest, read_json, write_json, write_text
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.collections.collection_names import is_there
from gcl_custom.imagery.collections.open_collections import holding, state_of, states_of_files
from gcl_custom.imagery.decoding import NODATA, UNREAD, Form, Unusable, reading
from gcl_custom.imagery.folders import FoundTile, Layout, common_form, layout_of
from gcl_custom.imagery.left_out import LEFT_OUT, excess, in_kinds, left_out, remarks, without_a_tile
from gcl_custom.imagery.mask_files import digest_of, keep_masks, mask_states, read_labels
from gcl_custom.imagery.packing_journal import PackingJournal, Record, States, differences
from gcl_custom.imagery.places.coordinates import known
from gcl_custom.imagery.places.near_duplicates import difference_hashes, near_pairs
from gcl_custom.imagery.read_tile import Read, footprints, on_earth, read_all
from gcl_custom.imagery.shards.shard_files import MappedShards
from gcl_custom.imagery.shards.take_store import take_store
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.splits import (
    Division,
    apart,
    divide,
    listed,
    missing_splits,
    of_alike,
    of_twins,
    places_of,
    told,
    twins,
)
from gcl_custom.imagery.tile_store import INDEX, NEAR, SPLITS, TileStore, require_index, write_index
from gcl_custom.imagery.values.bands import is_rgb
from gcl_custom.imagery.values.scaling import edges
from gcl_custom.imagery.values.summary import lacking, of_a_file, require_values, scaling_in_words, share_lacking
from gcl_custom.recipe.file import band_names, card_of
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

UNUSABLE, DUPLICATES = "unusable.txt", "duplicates.txt"
SEEN = "seen.json"
"""Digest of the files as they were when tiles were packed, or last found to be the same: while it holds, none is
opened."""
SMALL = 2**20
"""Most bytes of a table or a list that is read to notice a change."""
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
    lost = stage.done and not (stage.path / INDEX).is_file()
    if lost and not run.redo:
        require_index(stage.path)
    if data.store:
        take_store(stage, data.store, INDEX)
        return
    if stage.done and not lost:
        news = changed(run)
        if news is None:
            say(f"tiles: done before, in {stage.path}")
            return
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
    card = card_of(data)
    seen = _seen(data)  # before anything is read, so that what changes meanwhile is noticed
    layout = layout_of(data, card)
    if lost:
        discard(stage.path)
    # Nothing was made from an unfinished packing, so after an error it may begin again with other settings.
    stage.redo = stage.redo or not (stage.path / "stage.json").is_file()
    stage.begin()
    for note in layout.notes:
        warn(f"{root}: {note}")
    with reading():
        form = common_form(root, layout.tiles, band_names(data), data.use_bands, data.mask_band, data.scenes)
        form = form._replace(fill=data.fill)
        require_values(form, data)
        journal = PackingJournal(stage.path, form, data)
        _fill(journal, root, layout.tiles, form, data, stage)
    usable = _usable(journal, layout.tiles, root, data, stage.path)
    made = len(usable)
    about, columns, division, usable = _index(journal, usable, layout, form, data, stage.path)
    kinds = Counter(journal.records[tile.source].kind for tile in layout.tiles)
    write_index(stage.path, about, columns)
    store = TileStore(stage.path)
    digests = [journal.records[tile.source].digest for tile in usable]
    if layout.splits and (missing := missing_splits(layout.tiles)):
        warn(f"no folder gives the {' and the '.join(missing)} split: drawn from train by data.split")
    if copies := twins(store.sources, digests, store.split.tolist()):
        warn(of_twins(copies))
    for note in division.notes:
        warn(note)
    alike = _near_duplicates(store, digests)
    if alike:
        warn(of_alike(alike))
    write_text(stage.path / DUPLICATES, listed(copies, alike))
    without = [journal.records[tile.source].lacking for tile in usable]
    for note in lacking(without, form):
        warn(note)
    counts = {name: int((store.split == code).sum()) for code, name in enumerate(SPLITS)}
    stage.finish(
        content=_content(digests, store, digest_of(stage.path) if layout.kind.dense else ""),
        listing=_listing(root, data, layout),
        tiles=counts,
        classes=store.classes,
        bands=form.bands,
        dtype=form.dtype,
        unusable=len(layout.tiles) - made - sum(kinds[kind] for kind in LEFT_OUT),
        **{kind: kinds[kind] for kind in (LEFT_OUT if data.scenes else [NODATA])},
        near_another_split=made - len(usable),
        split=division.how,
        **({"masks": True} if layout.kind.dense else {}),
        **({"groups": division.groups} if division.groups else {}),
        values_without_data=share_lacking(without),
        duplicates_across_splits=sum(map(len, copies)),
        near_duplicates_across_splits=len({source for pair in alike for source in pair}),
    )
    write_json(stage.path / SEEN, seen)
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    classes = counted(len(store.classes), "class", "classes") if store.classes else "no labels"
    say(told(run))
    paths = {tile.source.path for tile in usable}
    scenes = f" from {counted(len(paths), 'scene')}" if data.scenes else ""
    bands = f"{counted(form.bands, 'band')} of {form.dtype}{of_a_file(form)}"
    say(f"tiles: {len(usable):,} of {data.size} px{scenes}, {bands}, {classes}; {shown}")
    for line in scaling_in_words(form, about["low"], about["high"]):
        say(line)


def changed(run: Run) -> str | None:
    """Say how the files differ, by path, size and time of change, from those that were packed; None if they do not.

    A missing root does not count as a change, because later stages read packed tiles only. Tiles are only looked for
    again if some file has changed: to cut scenes, bring polygons onto them, list an archive or ask other machines takes
    long.
    """
    stage, data, root = plan.tiles(run), run.recipe.data, Path(run.recipe.data.root)
    if not stage.done or not is_there(root):
        return None
    kept = stage.path / SEEN
    try:
        seen = _seen(data)
        if kept.is_file() and read_json(kept) == seen:
            return None
        layout = layout_of(data, card_of(data))
    except UserError as error:
        return f"the files in {root} have changed since they were packed, and could not be packed again ({error})"
    if _listing(root, data, layout) == stage.facts["listing"]:
        with suppress(OSError):  # in a folder that cannot be written to, tiles are looked for each time
            write_json(kept, seen)
        return None
    return (
        f"the files in {root} have changed since they were packed: {differences(stage.path, root, data, layout.tiles)}"
    )


def _seen(data: DataSettings) -> str:
    """Digest of what a layout is made from: the card, and path, size and time of change of each file below the root.

    Small tables and lists are read as well: an edit may leave their size and, on some disks, their time.

    Raises:
        UserError: the card has mistakes, or a file of a pattern is missing.
    """
    root = Path(data.root)
    named = [data.labels, *(data.split.lists.given.values() if data.split.lists else ())]
    texts = [_small(root / given) for given in named if given is not None]
    card = card_of(data)
    return json_digest([], [card and card.model_dump(), states_of_files(root), texts])


def _small(path: Path) -> str:
    """Digest of a file, or size and time of change of one that is large or cannot be read."""
    size, time = state_of(path)
    with suppress(OSError):
        if size <= SMALL and path.is_file():
            return file_digest(path)
    return f"{size} {time}"


def _fill(
    journal: PackingJournal, root: Path, tiles: Sequence[FoundTile], form: Form, data: DataSettings, stage: Stage
) -> None:
    pending, state = [], States(root, data)
    for tile in tiles:
        known = journal.records.get(tile.source)
        if known is None or known.kind == UNREAD or known.state != state.of(tile.source):
            pending.append(tile.source)
    if pending and (inside := holding(root, pending[0].path)):
        pending.sort(key=lambda source: inside.place(source.path))
    needed, free = len(pending) * journal.tile_bytes, shutil.disk_usage(stage.path).free
    if needed > free:
        raise UserError(
            f"{stage.path}: {counted(len(pending), 'tile needs', 'tiles need')} {in_bytes(needed)}, and "
            f"{in_bytes(free)} are free. "
            f"Make room, choose another place with --runs, or lower data.size"
        )
    length = max(1, min(BLOCK_TILES, BLOCK_BYTES // journal.tile_bytes))
    made = read_all(root, pending, form, data, partial(_packed, state=state, known=journal.digests.__contains__))
    with progress(len(tiles), "packing tiles") as bar:
        bar.advance(len(tiles) - len(pending))
        while block := list(islice(made, length)):
            journal.append(block)
            stage.tick()
            bar.advance(len(block))


def _packed(
    found: Read, state: States, known: Callable[[str], bool]
) -> tuple[Record, Real[np.ndarray, "c h w"] | None]:
    """The record of a source, and its pixels if they are new."""
    record = Record(found.source, *state.of(found.source), found.digest(), None)
    if known(record.digest):
        return record, None
    tile = found.tile()
    if isinstance(tile, Unusable):
        return record._replace(kind=tile.kind, detail=tile.detail), None
    record = record._replace(grey=tile.grey, alpha=tile.alpha, scene=tile.scene, lacking=tile.lacking, of=tile.of)
    record = record._replace(place=on_earth(found.place()))
    return record, tile.pixels


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
    sources = [tile.source for tile in tiles]
    reasons = list(excess([(record.source, record.kind) for record in bad], sources, data))
    if reasons or not usable:
        why = ". ".join(reasons) or "no file has a tile"
        examples = "\n".join(f"  {line}".replace("\t", ": ") for line in lines[:5])
        raise UserError(
            f"{root}: {why}.\n{examples}\nAll are listed in {folder / UNUSABLE}. Mend or remove them, change the "
            f"settings that their reasons name, or raise the limit"
        )
    if unusable := sum(kind not in LEFT_OUT for kind in kinds):
        shown, what = in_kinds(kinds), "windows" if data.scenes else "files"
        warn(
            f"{unusable:,} of {len(tiles):,} {what} {either(unusable, 'is', 'are')} unusable and left out "
            f"({shown}): {folder / UNUSABLE}"
        )
    for sentence in left_out(kinds, len(tiles), data):
        warn(sentence)
    if note := without_a_tile(sources, [tile.source for tile in usable], data):
        warn(note)
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
) -> tuple[dict[str, Any], dict[str, Tensor | list[str]], Division, list[FoundTile]]:
    """The contents of the index, how the tiles were divided, and those that stay: none lies beside another split.

    The contents are what holds for all tiles, and the columns.
    """
    sizes = {tile.source: of for tile in usable if (of := journal.records[tile.source].of)}
    with reading():
        classes, labels = read_labels(Path(data.root), layout, usable, data, folder, sizes)
    for name in layout.classes:
        if name not in classes:
            warn(f"class {name}: no usable tile in the train split, so it is left out")
    places = places_of(usable, {tile.source: journal.records[tile.source].place for tile in usable})
    ground = footprints(Path(data.root), [tile.source for tile in usable], data)
    division = divide(usable, labels, layout.kind, data, places, ground)
    division, kept = apart(division, places, ground, data)
    near = [str(usable[number].source) for number in torch.nonzero(~kept).flatten().tolist()]
    if near:
        usable = [usable[number] for number in torch.nonzero(kept).flatten().tolist()]
        labels, places = labels[kept], places[kept.numpy()]
        keep_masks(folder, kept.numpy())
        lines = (f"{plain(name)}\tnear another split\n" for name in near)
        write_text(folder / UNUSABLE, (folder / UNUSABLE).read_text(encoding="utf-8") + "".join(lines))
    split = division.split
    slots = torch.tensor([journal.records[tile.source].slot for tile in usable])
    pixels = MappedShards(folder, form.dtype, (form.bands, data.size, data.size))
    low, high = edges(pixels, slots[split == 0].tolist(), form, data.scaling)
    about = {
        **form.entries(),
        "size": data.size,
        "rgb": is_rgb(form),
        "low": low,
        "high": high,
        "classes": classes,
        "multi_label": layout.kind.stored_as,
    }
    columns: dict[str, Tensor | list[str]] = {
        "files": [str(tile.source) for tile in usable],
        "slots": slots,
        "labels": labels,
        "split": split.to(torch.int8),
        NEAR: near,
    }
    if (there := known(places)).any():
        columns["places"] = torch.from_numpy(np.where(there[:, None], places, np.nan))
    if division.blocks is not None:
        columns["blocks"] = division.blocks
    return about, columns, division, usable


def _near_duplicates(store: TileStore, digests: Sequence[str]) -> list[tuple[Source, Source]]:
    """Tiles that show nearly the same picture as one in another split, with the first such, without exact copies."""
    parts = [difference_hashes(store.read(part)) for part in torch.arange(len(store)).split(HASHED)]
    hashes, telling = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    pairs = near_pairs(hashes, telling, store.split.numpy(), digests=digests).tolist()
    return [(store.sources[one], store.sources[other]) for one, other in pairs]


def _content(digests: Sequence[str], store: TileStore, masks: str) -> str:
    """Digest of all that later stages see: sources, their digests, labels, masks and splits."""
    labels = store.kind.listed(store.labels)
    return json_digest(
        [store.sources.texts, digests, store.classes, labels, store.split.tolist()], [masks] if masks else []
    )


def _listing(root: Path, data: DataSettings, layout: Layout) -> str:
    """Digest of sources, their splits and labels, and the files' sizes and times of change."""
    state = States(root, data)
    seen = (((str(tile.source), tile.split, tile.label), state.of(tile.source)) for tile in layout.tiles)
    return json_digest([], chain(seen, mask_states(root, layout)))
