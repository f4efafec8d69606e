"""Stage: a folder or a collection -> the tile store, with labels and splits.

A killed packing continues where it stopped.
"""

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Real
from torch import Tensor

from gcl_custom.console import in_bytes, plain, progress, say, warn
from gcl_custom.counted import counted, either
from gcl_custom.errors import UserError
from gcl_custom.files import discard, json_digest, write_json, write_text
from gcl_custom.imagery import synthetic_scenes
from gcl_custom.imagery.changed_files import SEEN, changed, listing, seen_files
from gcl_custom.imagery.collections.open_collections import holding
from gcl_custom.imagery.decoding import NODATA, UNREAD, Form, Unusable, reading
from gcl_custom.imagery.folders import FoundTile, Layout, common_form, layout_of
from gcl_custom.imagery.left_out import LEFT_OUT, excess, in_kinds, left_out, remarks, without_a_tile
from gcl_custom.imagery.mask_files import digest_of, put_in_use, read_labels
from gcl_custom.imagery.packing_journal import PackingJournal, Record, States
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
    elif lost or _is_due(run, stage):
        packing = _pack(stage, data, lost)
        say(told(run))
        _summarise(packing, data)


@dataclass(frozen=True)
class _Packing:
    """What became of the files."""

    journal: PackingJournal
    layout: Layout
    form: Form
    readable: int
    """Number of the tiles that could be read."""
    tiles: list[FoundTile]
    """Those of them that stay, in the order of the store: none lies beside another split."""
    division: Division
    scaling: tuple[list[float], list[float]]
    """The values of each band that become 0 and 1."""
    store: TileStore

    @cached_property
    def digests(self) -> list[str]:
        return [self.journal.records[tile.source].digest for tile in self.tiles]

    @cached_property
    def without_data(self) -> list[tuple[float, ...]]:
        """The share of each band's values without data in each tile; empty where all hold some."""
        return [self.journal.records[tile.source].lacking for tile in self.tiles]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of tiles in each split."""
        return {name: len(self.store.index(name)) for name in SPLITS}


def _is_due(run: Run, stage: Stage) -> bool:
    """Whether tiles are to be packed, for the first time or again. If not, it is said why."""
    if not stage.done:
        return True
    news = changed(run)
    if news is None:
        say(f"tiles: done before, in {stage.path}")
        return False
    if run.uses(stage) and not run.redo:
        warn(
            f"{news}. Run {run.name} goes on with the tiles that it has. A new run takes the present files: "
            f"gcl-custom run {shlex.quote(str(run.path / 'recipe.yaml'))} --run NEW_NAME. Or add --redo, which "
            f"replaces what was made from the old ones"
        )
        return False
    say(f"tiles: {news}; only what changed is read")
    return True


def _pack(stage: Stage, data: DataSettings, anew: bool) -> _Packing:
    """Find the tiles, pack them, and finish the stage.

    Args:
        anew: nothing that is there is of use.
    """
    root = Path(data.root)
    if data.synthetic:
        synthetic_scenes.draw(root, data.synthetic)
    card = card_of(data)
    seen = seen_files(data)  # before anything is read, so that what changes meanwhile is noticed
    layout = layout_of(data, card)
    if anew:
        discard(stage.path)
    # Nothing was made from an unfinished packing, so after an error it may begin again with other settings.
    stage.redo = stage.redo or not (stage.path / "stage.json").is_file()
    stage.begin()
    for note in layout.notes:
        warn(f"{root}: {note}")
    packing = _packing(stage, data, layout)
    copies, alike = _repeated(packing, stage.path)
    for note in lacking(packing.without_data, packing.form):
        warn(note)
    stage.finish(
        **_facts(packing, data, stage.path),
        duplicates_across_splits=sum(map(len, copies)),
        near_duplicates_across_splits=len({source for pair in alike for source in pair}),
    )
    write_json(stage.path / SEEN, seen)
    return packing


def _packing(stage: Stage, data: DataSettings, layout: Layout) -> _Packing:
    """Read what is not packed yet, and write the index."""
    root = Path(data.root)
    with reading():
        form = common_form(root, layout.tiles, band_names(data), data.use_bands, data.mask_band, data.scenes)
        form = form._replace(fill=data.fill)
        require_values(form, data)
        journal = PackingJournal(stage.path, form, data)
        _fill(journal, root, layout.tiles, form, data, stage)
    usable = _usable(journal, layout.tiles, root, data, stage.path)
    about, columns, division, kept = _index(journal, usable, layout, form, data, stage.path)
    stage.reopen()
    if layout.kind.dense:
        put_in_use(stage.path, kept)
    write_index(stage.path, about, columns)
    scaling, store = (about["low"], about["high"]), TileStore(stage.path)
    tiles = list(compress(usable, kept.tolist()))
    return _Packing(journal, layout, form, len(usable), tiles, division, scaling, store)


def _repeated(packing: _Packing, folder: Path) -> tuple[list[list[Source]], list[tuple[Source, Source]]]:
    """Copies and near duplicates in different splits, which are listed; the user is told how splits came about."""
    store = packing.store
    if packing.layout.splits and (missing := missing_splits(packing.layout.tiles)):
        warn(f"no folder gives the {' and the '.join(missing)} split: drawn from train by data.split")
    if copies := twins(store.sources, packing.digests, store.split.tolist()):
        warn(of_twins(copies))
    for note in packing.division.notes:
        warn(note)
    if alike := _near_duplicates(store, packing.digests):
        warn(of_alike(alike))
    write_text(folder / DUPLICATES, listed(copies, alike))
    return copies, alike


def _facts(packing: _Packing, data: DataSettings, folder: Path) -> dict[str, Any]:
    """What the stage's record says of the tiles."""
    layout, store, division = packing.layout, packing.store, packing.division
    kinds = Counter(packing.journal.records[tile.source].kind for tile in layout.tiles)
    return {
        "content": _content(packing.digests, store, digest_of(folder) if layout.kind.dense else ""),
        "listing": listing(Path(data.root), data, layout),
        "tiles": packing.counts,
        "classes": store.classes,
        "bands": packing.form.bands,
        "dtype": packing.form.dtype,
        "unusable": len(layout.tiles) - packing.readable - sum(kinds[kind] for kind in LEFT_OUT),
        **{kind: kinds[kind] for kind in (LEFT_OUT if data.scenes else [NODATA])},
        "near_another_split": packing.readable - len(packing.tiles),
        "split": division.how,
        **({"masks": True} if layout.kind.dense else {}),
        **({"groups": division.groups} if division.groups else {}),
        "values_without_data": share_lacking(packing.without_data),
    }


def _summarise(packing: _Packing, data: DataSettings) -> None:
    """Say what was packed."""
    form, store = packing.form, packing.store
    shown = ", ".join(f"{name} {count:,}" for name, count in packing.counts.items())
    classes = counted(len(store.classes), "class", "classes") if store.classes else "no labels"
    paths = {tile.source.path for tile in packing.tiles}
    scenes = f" from {counted(len(paths), 'scene')}" if data.scenes else ""
    bands = f"{counted(form.bands, 'band')} of {form.dtype}{of_a_file(form)}"
    say(f"tiles: {len(packing.tiles):,} of {data.size} px{scenes}, {bands}, {classes}; {shown}")
    for line in scaling_in_words(form, *packing.scaling):
        say(line)


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
    for note in remarks((journal.records[tile.source] for tile in usable), data):
        warn(note)
    return usable


def _index(
    journal: PackingJournal,
    usable: list[FoundTile],
    layout: Layout,
    form: Form,
    data: DataSettings,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Tensor | list[str]], Division, Bool[Tensor, " n"]]:
    """The contents of the index, how the tiles were divided, and which stay: none lies beside another split.

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
        usable = list(compress(usable, kept.tolist()))
        labels, places = labels[kept], places[kept.numpy()]
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
    return about, columns, division, kept


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
