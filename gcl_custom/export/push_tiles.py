"""Put the packed tiles of a run into object storage, from where several machines can train on them."""

import json
import shlex
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom.console import in_bytes, progress, say
from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.files import bytes_digest
from gcl_custom.imagery.shards.object_storage import ObjectStorage
from gcl_custom.imagery.shards.streamed_shards import SHARDS, Shard
from gcl_custom.imagery.shards.take_store import FORM, LISTS, STORE, settings_to_fit
from gcl_custom.imagery.tile_store import INDEX, NEAR, SPLITS, TileStore, index_bytes, read_index, texts_in
from gcl_custom.randomness import derive
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

UPLOADS, UPLOAD_BYTES = 4, 2**29
"""Shards that are uploaded at a time, at the most, and their bytes, which are held in memory meanwhile. Of large shards
fsspec uploads several parts at a time by itself."""


def push_tiles(run: Run, address: str, shard_mb: float, overwrite: bool) -> None:
    """Write shards, then the index. Shards that are there already are not written again, so a push can be repeated.

    Each split has shards of its own. Within a split tiles are put into a random order once, always the same one, and
    numbered anew: so any few shards are a fair sample, and stages that read tiles in the order of their numbers go from
    shard to shard.

    Args:
        address: where to, as fsspec writes it.
        shard_mb: megabytes of a shard, at the most.
        overwrite: replace a store that is there.

    Raises:
        UserError: the run has no packed tiles of its own, a store is there, or the connection is lost.
    """
    stage, settings = plan.tiles(run), StoreSettings(address=address)
    if run.recipe.data.store or not stage.done:
        raise UserError(
            f"run {run.name} has no packed tiles of its own. Pack them where the files are: gcl-custom fit-generator "
            f"RECIPE"
        )
    store, storage = TileStore(stage.path), ObjectStorage(settings.address, settings.retries)
    if storage.size(STORE) is not None and not overwrite:
        raise UserError(f"{settings.address} holds packed tiles already. Add --overwrite, or give another address")
    parts = _parts(store, max(1, int(shard_mb * 1e6) // store.record.itemsize))
    shards, before, size = list[Shard](), 0, len(store) * store.record.itemsize
    there, largest = storage.sizes(SHARDS), max(map(len, parts)) * store.record.itemsize
    most = max(1, min(UPLOADS, UPLOAD_BYTES // largest))
    with progress(len(store), "pushing tiles") as bar, ThreadPoolExecutor(most) as pool:
        uploads: deque[Future[None]] = deque()
        try:
            for part in parts:
                content = store.records(part).tobytes()
                shards.append(Shard(bytes_digest(content), len(part)))
                if there.get(shards[-1].name) == len(content):
                    before += 1
                else:
                    if len(uploads) == most:
                        uploads.popleft().result()
                    uploads.append(pool.submit(storage.write, shards[-1].name, content))
                bar.advance(len(part))
            for upload in uploads:
                upload.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else what waits is uploaded first
            raise
    index = _index(store, torch.cat(parts), shards)
    storage.write(INDEX, index)
    for name in LISTS:
        storage.write(name, (stage.path / name).read_bytes())
    about = {
        "form": FORM,
        "data": settings_to_fit(dict(stage.settings["data"])),
        "facts": {**stage.facts, "content": bytes_digest(index)},
        "shards": len(shards),
        "shard_bytes": largest,
    }
    storage.write(STORE, json.dumps(about, indent=1).encode())
    known = f", {before:,} of them there before" if before else ""
    say(f"{len(store):,} tiles, {in_bytes(size)}, in {counted(len(shards), 'shard')}{known}: {settings.address}")
    setting = shlex.quote(f"data.store.address={settings.address}")
    say(f"train on them anywhere: gcl-custom run RECIPE --set {setting}")


def _parts(store: TileStore, most: int) -> list[Int[Tensor, " m"]]:
    """The tiles of each shard."""
    parts: list[Tensor] = []
    for split in SPLITS:
        tiles = store.index(split)
        rng = torch.Generator().manual_seed(derive(0, "push", split))
        parts += [part for part in tiles[torch.randperm(len(tiles), generator=rng)].split(most) if len(part)]
    return parts


def _index(store: TileStore, order: Int[Tensor, " n"], shards: Sequence[Shard]) -> bytes:
    """The index of the tiles in their new order."""
    about, columns = read_index(store.path)
    kept = [name for name in ("labels", "split", "places", "blocks") if name in columns]
    files, numbered = texts_in(columns, "files"), torch.arange(len(order))
    texts = {"files": [files[number] for number in order.tolist()], NEAR: list(texts_in(columns, NEAR))}
    return index_bytes(
        {**about, "shards": shards}, {**texts, "slots": numbered, **{name: columns[name][order] for name in kept}}
    )
