"""Packed tiles and their journal on the disk, written so that a kill loses one block at most.

Shards of pixels are only appended to, a block at a time. Once a block is on the disk, the journal ``packing.jsonl``
gets a line for each of its sources. A slot belongs to a digest, so a source that was renamed, touched or left as it was
is not decoded again.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from gcl_custom.files import damaged
from gcl_custom.imagery.collections.open_collections import holding, state_of
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.folders import FoundTile
from gcl_custom.imagery.scenes.remote import Remote, located
from gcl_custom.imagery.scenes.scene import mask_beside
from gcl_custom.imagery.shards.shard_files import MADE_BY, ShardWriter, tile_bytes
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import NEAR, read_index, texts_in
from gcl_custom.machine_faults import writing
from gcl_custom.recipe.imagery import DataSettings

JOURNAL = "packing.jsonl"


class Record(NamedTuple):
    """What became of a source: a line of the journal."""

    source: Source
    size: int
    mtime_ns: int
    digest: str
    slot: int | None
    """Position of its tile in the shards; None if it has no tile."""
    kind: str = ""
    detail: str = ""
    """Why it has no tile: the kind of problem, and details of this one."""
    grey: bool = False
    alpha: bool = False
    scene: bool = False
    place: tuple[float, float] | None = None
    """Longitude and latitude, if the file says where its tile lies."""
    lacking: tuple[float, ...] = ()
    """Share of each band's values without data; empty if all hold some."""
    of: tuple[int, int] | None = None
    """Width and height of the picture that its tile was made of."""

    @property
    def state(self) -> tuple[int, int]:
        """Size and time of change of the file. While they stay the same, it is not read again."""
        return self.size, self.mtime_ns

    def line(self) -> str:
        return json.dumps([str(self.source), *self[1:]], ensure_ascii=False)

    @classmethod
    def of_line(cls, line: str) -> "Record":
        text, *others = json.loads(line)
        found = cls(Source.parse(text), *others)
        place = None if found.place is None else (found.place[0], found.place[1])
        of = None if found.of is None else (found.of[0], found.of[1])
        return found._replace(place=place, lacking=tuple(found.lacking), of=of)


def packed(folder: Path) -> dict[Source, Record]:
    """The last line of each source in a store's journal, which stays as it is."""
    whole, _, _ = (folder / JOURNAL).read_bytes().rpartition(b"\n")
    return {
        record.source: record
        for record in map(Record.of_line, whole.decode("utf-8", "surrogateescape").split("\n")[1:])
    }


class PackingJournal:
    """The shards of a store and their journal, all made with the same settings. Other settings start both anew.

    Attributes:
        records: the last line of each source.
        digests: the first line of each digest.
        slots: number of tiles in the shards.
        tile_bytes: size of a tile there.
    """

    def __init__(self, folder: Path, form: Form, data: DataSettings) -> None:
        self.tile_bytes = tile_bytes(form.bands, data.size, form.dtype)
        self._pixels, self._journal = ShardWriter(folder, self.tile_bytes), folder / JOURNAL
        self.records: dict[Source, Record] = {}
        self.digests: dict[str, Record] = {}
        self.slots = 0
        scenes = {"scenes": data.scenes.model_dump(exclude={"remote"})} if data.scenes else {}
        sizes = {"size": data.size, "upscale": data.upscale, "nodata": data.nodata}
        header = json.dumps({**form.entries(), **sizes, **scenes})
        lines = self._whole_lines()
        if not lines or lines[0] != header:
            with writing(folder):
                self._pixels.begin()
                self._journal.write_text(f"{header}\n", encoding="utf-8")
        try:
            for line in lines[1:] if lines and lines[0] == header else []:
                self._learn(Record.of_line(line))
        except (ValueError, TypeError) as error:
            raise damaged(self._journal, error, MADE_BY) from None
        # A kill may leave the pixels of a block without its lines; the block is then written again.
        self._pixels.go_on(self.slots)

    def _whole_lines(self) -> list[str]:
        """Lines of the journal. A last line that a kill left unfinished is cut off.

        Lines end at newlines only: a path may hold U+2028 and the like, where ``str.splitlines`` would cut, too. It may
        also hold bytes that are no UTF-8; they are kept as they are.
        """
        if not self._journal.is_file():
            return []
        whole, _, torn = self._journal.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(self._journal, len(whole) + 1)
        return whole.decode("utf-8", "surrogateescape").split("\n") if whole else []

    def _learn(self, record: Record) -> None:
        self.records[record.source] = record
        self.digests.setdefault(record.digest, record)
        self.slots = max(self.slots, -1 if record.slot is None else record.slot + 1)

    def append(self, block: Sequence[tuple[Record, Real[np.ndarray, "c h w"] | None]]) -> None:
        """Put a block on the disk, pixels first. A digest that is there already keeps its slot, or its reason."""
        lines, tiles = list[str](), list[np.ndarray]()
        for fresh, tile in block:
            record = fresh
            if known := self.digests.get(fresh.digest):
                record = known._replace(source=fresh.source, size=fresh.size, mtime_ns=fresh.mtime_ns)
            elif tile is not None:
                record = fresh._replace(slot=self.slots)
                tiles.append(tile)
            self._learn(record)
            lines.append(f"{record.line()}\n")
        self._pixels.append(tiles)
        with writing(self._journal), self._journal.open("ab") as journal:
            journal.write("".join(lines).encode("utf-8", "surrogateescape"))
            journal.flush()
            os.fsync(journal.fileno())


class States:
    """Size and time of change of each source's files, asked for once: of its file and, for a scene, its mask of clouds.

    A tile in a collection has those of the collection's file that it lies in. Of a scene on another machine nothing is
    asked: it counts as unchanged.
    """

    def __init__(self, root: Path, data: DataSettings) -> None:
        self._root, self._scenes, self._known = root, data.scenes, dict[str, tuple[int, int]]()
        self._mask = data.scenes.cloud.file if data.scenes and data.scenes.cloud else None

    def of(self, source: Source) -> tuple[int, int]:
        if isinstance(located(self._root, source.path, self._scenes), Remote):
            return 0, 0
        inside = holding(self._root, source.path)
        path = str(inside.file_of(source.path) if inside else self._root / source.path)
        if path not in self._known:
            mask = [] if self._mask is None else [mask_beside(Path(path), self._mask)]
            sizes, times = zip(*map(state_of, [Path(path), *mask]), strict=True)
            self._known[path] = sum(sizes), max(times)
        return self._known[path]


def differences(folder: Path, root: Path, data: DataSettings, tiles: Sequence[FoundTile]) -> str:
    """How many files were added, altered and taken away since a store was packed."""
    records, counts, state = packed(folder), Counter[str](), States(root, data)
    _, columns = read_index(folder)
    before = {*texts_in(columns, "files"), *texts_in(columns, NEAR)}
    for tile in tiles:
        record = records.get(tile.source)
        if record is None or (record.slot is not None and str(tile.source) not in before):
            counts["added"] += 1
        elif record.state != state.of(tile.source):
            counts["altered"] += 1
    counts["gone"] = len(before - {str(tile.source) for tile in tiles})
    return ", ".join(f"{count:,} {how}" for how, count in counts.items() if count) or "other labels or splits"
