"""The tile store: all tiles of a run, resized once and kept in memory-mapped files.

    b  tiles in a batch     c  bands     h w  pixels (h = w = data.size)     n  tiles in the store

A store is a folder. Its shards hold the pixels (slot, c, h, w), of one type, see ``shards.shard_files``. The index,
``tiles.safetensors``, holds for each tile, in the order of the relative paths, its slot, label, split and, under
``files``, its source; what holds for all tiles is JSON in its header. It is mapped into memory, so a store of a
million tiles opens at once. Slots are only ever appended, so a second packing after files were added or taken away
reuses what is there. Where tiles have masks, the file ``masks.bin`` holds them (tile, h, w), a class number or 255
a pixel.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Real, Shaped, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gcl_custom.arrays import Texts
from gcl_custom.errors import UserError
from gcl_custom.files import UNREADABLE, damaged, in_run, write_bytes
from gcl_custom.imagery.places.coordinates import Places
from gcl_custom.imagery.shards.shard_files import MADE_BY, MappedShards, Shards
from gcl_custom.imagery.shards.streamed_shards import Shard, StreamedShards, record_type
from gcl_custom.imagery.source import Sources
from gcl_custom.imagery.values import bands, scaling
from gcl_custom.imagery.values.forms import Form
from gcl_custom.measures.label_kinds import kind_stored, within
from gcl_custom.pictures import Quicklook

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
INDEX = "tiles.safetensors"
ABOUT, BYTES, ENDS = "about", ".bytes", ".ends"
"""In the index: the key of what holds for all tiles, and the two columns of texts behind their name."""
NEAR = "near_another_split"
"""A column of the index: files whose tiles were left out, since they lay too near another split."""
MASKS = "masks.bin"
MOST_SLOTS = 2**40
MOMENTS_SAMPLE = 1000
STRETCH, STRETCH_SAMPLE = (2.0, 98.0), 2**20
"""The percentiles that are black and white in pictures, and how many values of a band they are taken of."""


def tensor_of(pixels: Real[np.ndarray, "*shape"]) -> Real[Tensor, "*shape"]:
    """Keep uint8 and float32, and convert uint16 and int16 to int32, since torch has few operations on uint16."""
    return torch.from_numpy(pixels if pixels.dtype in (np.uint8, np.float32) else pixels.astype(np.int32))


def scaled(
    raw: Real[Tensor, "*b c h w"], low: Float[Tensor, " c"], high: Float[Tensor, " c"]
) -> Float[Tensor, "*b c h w"]:
    """Map values of each band to float32 in [0, 1], low to 0 and high to 1; clip what lies beyond.

    Values without data are the lowest of their type, and so become 0.
    """
    low, high = (edge.to(raw.device)[:, None, None] for edge in (low, high))
    return ((raw.float() - low) / (high - low)).clamp_(0, 1)


def even_places(count: int, most: int) -> Float[Tensor, " m"]:
    """At most ``most`` places from 0 to count - 1 in even steps, not rounded.

    Beyond 2^24, float32 lacks whole numbers. Below, float64 would round to other tiles than the published ones.
    """
    dtype = torch.float32 if count <= 2**24 else torch.float64
    return torch.linspace(0, count - 1, min(count, most), dtype=dtype)


def spread(index: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """Choose at most ``most`` entries, spread evenly from the first to the last."""
    return index[even_places(len(index), most).round().long()]


def thinned(index: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """Choose every k-th entry from the first on, with the smallest k that leaves at most ``most``."""
    return index[:: math.ceil(len(index) / most)]


Columns = dict[str, Shaped[Tensor, "n *_"]]


def write_index(folder: Path, about: Mapping[str, Any], columns: Mapping[str, Tensor | Sequence[str]]) -> None:
    """Write the index of a store, whole or not at all. It takes what ``index_bytes`` takes.

    Raises:
        OSError: it cannot be written.
    """
    write_bytes(folder / INDEX, index_bytes(about, columns))


def index_bytes(about: Mapping[str, Any], columns: Mapping[str, Tensor | Sequence[str]]) -> bytes:
    """The content of an index.

    Args:
        about: what holds for all tiles: form, size, ``rgb``, edges, ``classes`` and the kind of label.
        columns: what each tile has: ``files``, ``slots``, ``labels``, ``split``, and ``places`` and ``blocks`` if there
            are any. Further columns may have any length.
    """
    tensors: Columns = {}
    for name, column in columns.items():
        if isinstance(column, Tensor):
            tensors[name] = column.contiguous()
        else:
            texts = Texts.of(column)
            tensors[name + BYTES], tensors[name + ENDS] = torch.from_numpy(texts.content), torch.from_numpy(texts.ends)
    return save(tensors, {ABOUT: json.dumps(about, ensure_ascii=False)})


def _named(folder: Path) -> str:
    """What names the run of a store on the command line. Those of a study's pool belong to many runs."""
    if in_run(folder):
        return f"--run {folder.parent.name}"
    study = folder.parent.parent
    return f"--run {study.name}/cells/CELL" if (study / "cells").is_dir() else "RECIPE"


def require_index(folder: Path) -> None:
    """Refuse a folder without packed tiles. Only --redo packs again what is noted as packed.

    Raises:
        UserError: there is no index.
    """
    if not (folder / INDEX).is_file():
        redo = " --redo" if (folder / "stage.json").is_file() else ""
        raise UserError(f"{folder} holds no packed tiles ({INDEX} is missing). Run: {MADE_BY} {_named(folder)}{redo}")


def read_index(folder: Path) -> tuple[dict[str, Any], Columns]:
    """What ``write_index`` wrote: what holds for all tiles, and the columns, mapped into memory.

    Raises:
        UserError: there is none, or it is damaged.
    """
    require_index(folder)
    path = folder / INDEX
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()[ABOUT]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, *UNREADABLE) as error:
        raise damaged(path, error, MADE_BY) from None


def texts_in(columns: Columns, name: str) -> Texts:
    """A column of texts."""
    return Texts(columns[name + BYTES].numpy(), columns[name + ENDS].numpy())


class TileStore:
    """Packed tiles of one size, number of bands and type. It opens at once and is pickled by its path.

    Attributes:
        count: number of tiles, n.
        form: what tiles have in common.
        bands: number of bands, c.
        size: side of a tile in pixels.
        dtype: "uint8", "uint16", "int16" or "float32".
        rgb: whether the bands are red, green and blue.
        sources: file and window of each tile, made when they are asked for; ``sources.texts`` are theirs.
        classes: names of the labels.
        kind: what a label is.
        labels: label of each tile, as its kind stores it.
        has_label: whether a tile has any.
        split: 0 train, 1 valid, 2 test.
        places: longitude and latitude of each tile, NaN where unknown; None where all are unknown.
        blocks: number of the block or scene that each tile was divided with, -1 for none; None for other splits.
        low, high: the values of each band that ``unit`` maps to 0 and 1.
        streamed: the shards in object storage that hold the pixels; None where they lie in the folder.

    Raises:
        UserError: the folder holds no finished store, or a damaged one.
    """

    streamed: list[Shard] | None = None

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        about, columns = read_index(self.path)
        try:
            self._understand(about, columns)
        except UNREADABLE as error:
            raise damaged(self.path / INDEX, error, MADE_BY) from None

    def _understand(self, about: dict[str, Any], columns: Columns) -> None:
        self.form = Form.of(about)
        self.bands, self.dtype = self.form.bands, self.form.dtype
        self.size: int = about["size"]
        self.rgb: bool = about["rgb"]
        self.classes: list[str] = about["classes"]
        self.sources = Sources(texts_in(columns, "files"))
        self.count: int = len(self.sources)
        self.labels = columns["labels"]
        self.kind = kind_stored(about["multi_label"], self.labels, len(self.classes))
        self.split: Int8[Tensor, " n"] = columns["split"]
        self.places: Places | None = columns["places"].numpy() if "places" in columns else None
        self.blocks: Int[Tensor, " n"] | None = columns.get("blocks")
        self.low: Float[Tensor, " c"] = torch.tensor(about["low"], dtype=torch.float32)
        self.high: Float[Tensor, " c"] = torch.tensor(about["high"], dtype=torch.float32)
        self._slots = columns["slots"].numpy()
        if "shards" in about:
            self.streamed = [Shard(*shard) for shard in about["shards"]]
        for name in ("labels", "split", "slots", "places", "blocks"):
            if name in columns and len(columns[name]) != self.count:
                raise ValueError(f"it holds {len(columns[name])} {name} of {self.count} tiles")
        if not within(self.split, 0, len(SPLITS) - 1) or not within(columns["slots"], 0, MOST_SLOTS):
            raise ValueError("a tile of it has a split or a slot that there is not")

    def __reduce__(self) -> tuple[type["TileStore"], tuple[Path]]:
        return TileStore, (self.path,)

    def __len__(self) -> int:
        return self.count

    @cached_property
    def has_label(self) -> Bool[Tensor, " n"]:
        return self.kind.has_label(self.labels)

    @cached_property
    def _stream(self) -> StreamedShards | None:
        """The shards in object storage, if the pixels are there."""
        tile = (self.bands, self.size, self.size)
        if self.streamed is None:
            return None
        return StreamedShards(self.path, self.streamed, self.dtype, tile, self.kind.dense)

    @cached_property
    def _pixels(self) -> Shards:
        pixels: Shards | None = self._stream
        if pixels is None:
            pixels = MappedShards(self.path, self.dtype, (self.bands, self.size, self.size))
        if len(self._slots) and self._slots.max() >= len(pixels):
            raise damaged(self.path / INDEX, ValueError(f"the shards hold {len(pixels)} tiles, too few"), MADE_BY)
        return pixels

    @cached_property
    def _masks(self) -> UInt8[np.ndarray, "n h w"]:
        path, shape = self.path / MASKS, (self.count, self.size, self.size)
        try:
            return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
        except (OSError, ValueError) as error:
            raise damaged(path, error, MADE_BY) from None

    def targets(self, index: Int[Tensor, " b"]) -> Shaped[Tensor, "b *_"]:
        """What a network is to say of tiles, on the CPU: their labels, or their masks (b h w)."""
        index = index.cpu()
        return torch.from_numpy(self._masks_of(index)) if self.kind.dense else self.labels[index]

    def _masks_of(self, index: Int[Tensor, " b"]) -> UInt8[np.ndarray, "b h w"]:
        if self._stream is not None:
            return self._stream.masks(self._slots[index.numpy()])
        return np.asarray(self._masks[index.numpy()])

    def classes_of(self, tile: int) -> str:
        """The classes of a tile, in words."""
        borne = [name for number, name in enumerate(self.classes) if self.kind.bears(self.labels[[tile]], number)]
        return " and ".join(borne) or "no label"

    def index(self, split: SplitName) -> Int[Tensor, " m"]:
        """The numbers of a split's tiles, ascending. Packing refuses tiles of which a split has none."""
        return torch.nonzero(self.split == SPLITS.index(split)).flatten()

    def watched(self, most: int) -> Int[Tensor, " m"]:
        """At most ``most`` validation tiles as ``sample`` chooses them."""
        return self.sample(self.index("valid"), most)

    def sample(self, index: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
        """At most so many of some tiles, spread evenly. Of a streamed store the first ones, which lie in few shards:
        their order is random there."""
        return spread(index, most) if self.streamed is None else index[:most]

    @cached_property
    def moments(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Mean and standard deviation of each band, in unit floats, over at most 1,000 training tiles."""
        tiles = (
            self.unit(self.read(tile[None]))[0].double() for tile in self.sample(self.index("train"), MOMENTS_SAMPLE)
        )
        sums = [torch.stack([tile.mean((1, 2)), tile.square().mean((1, 2))]) for tile in tiles]
        mean, square = torch.stack(sums).mean(0)
        deviation = (square - mean**2).clamp(min=1 / 255**2).sqrt()  # a band may be constant
        return mean.float(), deviation.float()

    def quicklook(self, wanted: Sequence[int | str] | None) -> Quicklook:
        """How pictures show tiles: which bands, and what is black and white.

        8-bit colours are shown as they are. Other bands are stretched between two percentiles of a few training tiles.

        Args:
            wanted: bands by name or number, as in ``data.quicklook``.
        """
        places = bands.shown(self.form, wanted)
        if self.rgb and self.dtype == "uint8":
            return Quicklook(places, [0.0] * len(places), [1.0] * len(places))
        few = self._slots[self.sample(self.index("train"), max(8, STRETCH_SAMPLE // self.size**2)).numpy()]
        tiles = self._pixels[few][:, places]
        edges = [scaling.band_edges(values, *STRETCH) for values in scaling.sampled(tiles, range(len(tiles)))]
        low, high = scaled(torch.tensor(edges).T[:, :, None, None], self.low[places], self.high[places])[..., 0, 0]
        return Quicklook(places, low.tolist(), torch.maximum(high, low + 1 / 255).tolist())

    def read(self, index: Int[Tensor, " b"]) -> Real[Tensor, "b c h w"]:
        """Read tiles as they are stored, in the type of ``tensor_of``."""
        return tensor_of(self._pixels[self._slots[index.cpu().numpy()]])

    @property
    def record(self) -> np.dtype:
        """What ``records`` holds of a tile."""
        return record_type(self.dtype, (self.bands, self.size, self.size), self.kind.dense)

    def records(self, index: Int[Tensor, " b"]) -> Shaped[np.ndarray, " b"]:
        """Pixels and masks of tiles as they lie in a streamed shard."""
        found = np.empty(len(index), self.record)
        found["pixels"] = self._pixels[self._slots[index.numpy()]]
        if self.kind.dense:
            found["mask"] = self._masks_of(index)
        return found

    def order(self, index: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
        """The order in which an epoch takes tiles, as their places in ``index``: random. That of a streamed store goes
        through its shards, see ``StreamedShards.order``."""
        if self._stream is not None:
            return self._stream.order(self._slots[index.numpy()], rng)
        return torch.randperm(len(index), generator=rng)

    def fetch(self, index: Int[Tensor, " b"]) -> None:
        """Tell a streamed store which tiles will be read soon."""
        if self._stream is not None:
            self._stream.fetch(self._slots[index.numpy()])

    def unit(self, raw: Real[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Map stored values to float32 in [0, 1], as ``scaled`` does."""
        return scaled(raw, self.low, self.high)

    def raw(self, unit: Float[Tensor, "b c h w"]) -> Real[Tensor, "b c h w"]:
        """Map unit floats back to stored values in the type of ``read``, integers rounded: the inverse of ``unit``."""
        low, high = (edge.to(unit.device)[:, None, None] for edge in (self.low, self.high))
        values = unit.float().clamp(0, 1) * (high - low) + low
        if self.dtype == "float32":
            return values
        return values.round_().to(torch.uint8 if self.dtype == "uint8" else torch.int32)


class TileRows:
    """The row of each tile in a file that holds only some of the store's tiles.

    Args:
        tiles: the tiles' numbers in the store, in the order of the rows.
        only: message if a tile is asked for that is not in the file.
    """

    def __init__(self, tiles: Int[Tensor, " n"], only: str) -> None:
        self._only, self._count = only, len(tiles)
        self._rows = torch.full((int(tiles.max()) + 1,), -1)
        self._rows[tiles] = torch.arange(len(tiles))

    def __len__(self) -> int:
        return self._count

    def of(self, tiles: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The rows of the given tiles, on the CPU."""
        rows = self._rows[tiles.cpu()]
        assert (rows >= 0).all(), self._only
        return rows
