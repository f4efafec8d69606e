from pathlib import Path

import numpy as np
import pytest
from small_images import class_folders

from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.shards import shard_files
from gcl_custom.imagery.shards.shard_files import MappedShards, ShardWriter, shard_name
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

TILES = np.random.default_rng(0).integers(0, 60_000, (11, 2, 16, 16)).astype(np.uint16)
EACH = TILES[0].nbytes


@pytest.fixture
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tiles in each."""
    monkeypatch.setattr(shard_files, "SHARD_BYTES", 4 * EACH + 1)


def written(folder: Path) -> ShardWriter:
    """All tiles, in blocks that end within shards, at their ends and beyond."""
    writer = ShardWriter(folder, EACH)
    writer.begin()
    for block in np.split(TILES, [3, 4, 5]):
        writer.append(list(block))
    return writer


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("_small_shards")
def test_shards_are_bounded_and_read_like_one_array(tmp_path: Path) -> None:
    written(tmp_path)
    assert [len(content) // EACH for content in files(tmp_path).values()] == [4, 4, 3]
    shards = MappedShards(tmp_path, "uint16", (2, 16, 16))
    assert (shards.shape, len(shards)) == (TILES.shape, 11)
    for slots in ([0], [5, 4, 7], [10, 0, 3, 4, 8, 10, 0], []):
        index = np.array(slots, dtype=np.int64)
        assert np.array_equal(shards[index], TILES[index])
        assert np.array_equal(shards[index, 1], TILES[index, 1])
        assert shards[index].dtype == np.uint16


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize("kept", [0, 2, 4, 7, 8, 11])
def test_what_a_kill_left_behind_is_cut_off_and_written_again(tmp_path: Path, kept: int) -> None:
    written(tmp_path)
    whole = files(tmp_path)
    with (tmp_path / shard_name(2)).open("ab") as file:
        file.write(b"half a tile")
    writer = ShardWriter(tmp_path, EACH)
    writer.go_on(kept)
    assert b"".join(files(tmp_path).values()) == TILES[:kept].tobytes()
    writer.append(list(TILES[kept:]))
    assert files(tmp_path) == whole


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize(
    ("number", "tiles"), [(0, None), (1, None), (0, 3), (1, 3), (1, 5), (2, 0), (2, 2.5), (2, 5)],
)  # fmt: skip
def test_a_damaged_shard_is_named(tmp_path: Path, number: int, tiles: float | None) -> None:
    written(tmp_path)
    path = tmp_path / shard_name(number)
    path.unlink() if tiles is None else path.write_bytes(bytes(int(tiles * EACH)))
    with pytest.raises(UserError, match=r"tiles-0000\d.bin is damaged"):
        MappedShards(tmp_path, "uint16", (2, 16, 16))
    if tiles is None or tiles < 3:
        with pytest.raises(UserError, match=rf"{shard_name(number)} is damaged"):
            ShardWriter(tmp_path, EACH).go_on(11)


def run_on(folder: Path, root: Path) -> Run:
    return Run(folder / "run", Recipe(name="run", data=DataSettings(root=str(root), size=16)))


def test_a_store_in_many_shards_is_as_one_in_a_single_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "root")
    whole, divided = run_on(tmp_path / "1", root), run_on(tmp_path / "2", root)
    pack_tiles.pack_tiles(whole)
    one = plan.tiles(whole).path
    pixels, output = (one / shard_name(0)).read_bytes(), plan.tiles(whole).output
    monkeypatch.setattr(shard_files, "SHARD_BYTES", 3 * 16 * 16 * 3)
    pack_tiles.pack_tiles(divided)
    shards = sorted(plan.tiles(divided).path.glob("tiles-*.bin"))
    assert len(shards) > 2
    assert b"".join(path.read_bytes() for path in shards) == pixels
    assert plan.tiles(divided).output == output
    assert (plan.tiles(divided).path / "tiles.safetensors").read_bytes() == (one / "tiles.safetensors").read_bytes()
