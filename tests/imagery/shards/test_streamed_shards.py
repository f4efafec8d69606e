from pathlib import Path

import numpy as np
import pytest
import torch

from gcl_custom.files import bytes_digest
from gcl_custom.imagery.shards.object_storage import ObjectStorage
from gcl_custom.imagery.shards.streamed_shards import Shard, StreamedShards, has_pixels, keep_settings, record_type
from gcl_custom.recipe.store import StoreSettings

TILE = (2, 4, 4)
COUNTS = [5, 5, 5, 5, 2, 5, 5, 5, 1]
RECORD = record_type("uint16", TILE, masks=True)


def pushed(folder: Path, mixed: int = 2) -> tuple[StreamedShards, np.ndarray]:
    """Shards of random tiles, and all their records."""
    rng, address = np.random.default_rng(0), f"file://{folder}/far"
    records = np.empty(sum(COUNTS), RECORD)
    records["pixels"] = rng.integers(0, 60_000, records["pixels"].shape)
    records["mask"] = rng.integers(0, 256, records["mask"].shape)
    shards = []
    for part in np.split(records, np.cumsum(COUNTS)[:-1]):
        shards.append(Shard(bytes_digest(part.tobytes()), len(part)))
        ObjectStorage(address, 0).write(shards[-1].name, part.tobytes())
    assert not has_pixels(folder)
    gigabytes = (mixed + 2) * 5 * RECORD.itemsize / 1e9
    keep_settings(
        folder, StoreSettings(address=address, cache=f"{folder}/cache", cache_gb=gigabytes, mixed_shards=mixed)
    )
    assert has_pixels(folder)
    return StreamedShards(folder, shards, "uint16", TILE, masks=True), records


def fetched(shards: StreamedShards, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which shards are fetched from now on."""
    names: list[str] = []
    real = shards._storage.fetch
    monkeypatch.setattr(shards._storage, "fetch", lambda name, *rest: names.append(name) or real(name, *rest))
    return names


def test_streamed_shards_are_indexed_like_an_array(tmp_path: Path) -> None:
    shards, records = pushed(tmp_path)
    assert (shards.shape, shards.dtype) == ((38, *TILE), np.uint16)
    for slots in ([3], [37, 0, 21, 21, 20, 5], list(range(38)), []):
        index = np.array(slots, dtype=np.int64)
        assert np.array_equal(shards[index], records["pixels"][index])
        assert np.array_equal(shards[index, 1], records["pixels"][index, 1])
        assert np.array_equal(shards.masks(index), records["mask"][index])


def orders(shards: StreamedShards, slots: np.ndarray, seeds: int) -> list[list[int]]:
    return [shards.order(slots, torch.Generator().manual_seed(seed)).tolist() for seed in range(seeds)]


@pytest.mark.parametrize("mixed", [1, 2, 4])
def test_an_epoch_takes_each_tile_once_from_few_shards_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: int
) -> None:
    shards, records = pushed(tmp_path, mixed)
    slots = np.delete(np.arange(38), [0, 7, 22])  # such as those with labels
    of = np.repeat(np.arange(len(COUNTS)), COUNTS)[slots]
    for order in orders(shards, slots, 20):
        assert sorted(order) == list(range(len(slots)))
        first = {shard: order.index(place) for place in reversed(order) for shard in [of[place]]}
        last = {of[place]: number for number, place in enumerate(order)}
        in_use = [sum(first[shard] <= now <= last[shard] for shard in first) for now in range(len(order))]
        assert max(in_use) <= mixed + 1
    names = fetched(shards, monkeypatch)
    for place in order:
        assert np.array_equal(shards[slots[[place]]], records["pixels"][slots[[place]]])
    assert len(names) == len(set(names)) == len(COUNTS), "each is fetched once an epoch"


def test_orders_differ_by_seed_alone_and_mix(tmp_path: Path) -> None:
    shards, _ = pushed(tmp_path)
    slots = np.arange(38)
    found = orders(shards, slots, 50)
    assert found == orders(shards, slots, 50)
    assert len({tuple(order) for order in found}) == 50
    of = np.repeat(np.arange(len(COUNTS)), COUNTS)
    changes = np.mean([(np.diff(of[order]) != 0).mean() for order in found])
    assert changes > 0.4, "neighbours in an epoch lie in different shards"
    assert len({of[order[0]] for order in found}) > 5, "an epoch begins with any shard"


def test_few_shards_are_mixed_wholly(tmp_path: Path) -> None:
    shards, _ = pushed(tmp_path, mixed=9)
    assert torch.equal(
        shards.order(np.arange(38), torch.Generator().manual_seed(3)),
        torch.randperm(38, generator=torch.Generator().manual_seed(3)),
    )


def test_shards_are_fetched_before_their_tiles_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, records = pushed(tmp_path)
    names = fetched(shards, monkeypatch)
    far = [shard.name for shard in shards._shards]
    shards.fetch(np.array([12, 13, 0]))
    assert [asked.result() is not None for asked in shards._asked.values()] == [True]
    assert names == [far[2]], "the one that is asked for first"
    shards.fetch(np.array([0]))
    assert np.array_equal(shards[np.array([12])], records["pixels"][[12]])
    assert names == [far[2]], "one at a time is fetched ahead"
    shards.fetch(np.array([12, 0]))
    assert np.array_equal(shards[np.array([12, 0])], records["pixels"][[12, 0]])
    assert names == [far[2], far[0]]


def test_a_shard_that_another_process_removed_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, records = pushed(tmp_path)
    real, removed = shards._cache.path, []

    def path(*arguments: object) -> Path:
        found = real(*arguments)
        if not removed:
            removed.append(found)
            found.unlink()
        return found

    monkeypatch.setattr(shards._cache, "path", path)
    assert np.array_equal(shards[np.array([3])], records["pixels"][[3]])
    assert removed
