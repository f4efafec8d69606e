"""The store of latents: read back by tile, whole or not there, and the same however it was written."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_tiles import tile_store
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.latent_store import FILE, Latents, LatentWriter, rows_of
from gcl_custom.generator.public.icgan import Features


def features(tiles: Tensor) -> Features:
    condition = tiles[:, None] + torch.arange(5) / 8
    return Features(condition, tiles[:, None].float().expand(-1, 3).sqrt())


def test_features_are_read_back_by_tile_and_name(tmp_path: Path) -> None:
    store = tile_store(tmp_path / "tiles")
    train = store.index("train")
    folder = tmp_path / "latents"
    folder.mkdir()
    writer = LatentWriter(folder, train, 5)
    for number in writer.pending:
        writer.write(number, rows_of(features(writer.tiles(number))))
    writer.finish()
    assert [path.name for path in folder.iterdir()] == [FILE]
    wanted = train[torch.tensor([4, 0, 4, 9])]
    latents = Latents(folder, store)
    for read in (latents.read(wanted), pickle.loads(pickle.dumps(latents)).read(wanted)):
        assert list(read) == ["condition", "z"]
        assert torch.equal(read["condition"], features(wanted).condition)
        assert torch.equal(read["z"], features(wanted).z)
    with pytest.raises(AssertionError, match="only training tiles"):
        latents.read(store.index("test")[:1])


def test_an_interrupted_store_goes_on_from_any_process(tmp_path: Path) -> None:
    tiles = torch.arange(100, 111)
    writers = [LatentWriter(tmp_path, tiles, 4) for _ in range(2)]
    assert writers[0].pending == [0, 1, 2]
    writers[1].write(2, rows_of(features(tiles[8:])))
    assert (writers[0].written, writers[0].pending) == (3, [0, 1])
    other = LatentWriter(tmp_path, tiles, 6)
    assert (other.written, other.pending) == (0, [0, 1]), "blocks of another size begin anew"
    writers[0].write(0, rows_of(features(tiles[:4])))
    with pytest.raises(UserError, match="is damaged or was changed"):
        writers[0].finish()
    assert not (tmp_path / FILE).exists()
    again = LatentWriter(tmp_path, tiles, 4)
    assert (again.written, again.pending) == (7, [1])
    again.write(1, rows_of(features(tiles[4:8])))
    again.finish()
    found = np.load(tmp_path / FILE)
    assert np.array_equal(found["condition"], features(tiles).condition)
    late = LatentWriter(tmp_path, tiles, 4)
    assert (late.written, late.pending) == (11, []), "a process that died before it could say that all was done"
    late.finish()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
