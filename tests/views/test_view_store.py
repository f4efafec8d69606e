"""The view store: what is read back, that an interrupted store ends up the same, and messages."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_tiles import tile_store
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.views import view_store
from gcl_custom.views.view_store import Make, ViewStore, ViewWriter, Written, write_similarity


def write_views(path: Path, store: TileStore, per_tile: int, block: int, make: Make) -> Written:
    writer = ViewWriter(path, store, per_tile, block)
    for number in writer.pending:
        writer.keep(number, writer.made(number, make))
    assert not writer.pending
    assert writer.views == per_tile * len(store.index("train"))
    return writer.written


class Maker:
    """Noise that is a function of the tile and of the number of its view; it may die at some call."""

    def __init__(self, store: TileStore, dies_at: int | None = None) -> None:
        self.store, self.dies_at, self.calls = store, dies_at, 0

    def __call__(self, tiles: Tensor, which: int) -> tuple[Tensor, float]:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        unit = Randomness(0, "views", which, tiles).uniform("pixels", 2, 16, 16)
        return self.store.raw(unit), tiles.double().sum().item()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_views_are_read_back_by_tile_and_number(tmp_path: Path, dtype: str) -> None:
    store, maker = tile_store(tmp_path / "tiles", dtype), Maker(tile_store(tmp_path / "same", dtype))
    (tmp_path / "views").mkdir()
    written = write_views(tmp_path / "views", store, 2, 4, maker)
    train = store.index("train")
    assert written.changed == 2 * train.sum().item()
    made = ViewStore(tmp_path / "views")
    assert made.per_tile == 2
    some = train[torch.tensor([7, 0, 7])]
    read = made.read(some, torch.tensor([1, 0, 0]))
    assert read.dtype == store.read(some).dtype
    for row, (tile, which) in enumerate(zip(some, (1, 0, 0), strict=True)):
        assert torch.equal(read[row : row + 1], maker(tile[None], which)[0])


@pytest.mark.parametrize("dies_at", [0, 1, 3, 4])
def test_an_interrupted_store_ends_up_the_same_byte_for_byte(tmp_path: Path, dies_at: int) -> None:
    store = tile_store(tmp_path / "tiles")
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    whole = write_views(tmp_path / "whole", store, 2, 4, Maker(store))
    with pytest.raises(KeyboardInterrupt):
        write_views(tmp_path / "resumed", store, 2, 4, Maker(store, dies_at))
    again = Maker(store)
    resumed = write_views(tmp_path / "resumed", store, 2, 4, again)
    assert again.calls == 2 * (3 - dies_at // 2), "finished blocks are not made again"
    assert resumed.changed == whole.changed
    for name in ("views.npy", "tiles.npy"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_blocks_of_several_processes_leave_the_same_bytes(tmp_path: Path) -> None:
    """Two writers that are open at once and make blocks in any order; the first one keeps them, as processes do."""
    store = tile_store(tmp_path / "tiles")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    whole = write_views(tmp_path / "one", store, 2, 4, Maker(store))
    writers = [ViewWriter(tmp_path / "two", store, 2, 4) for _ in range(2)]
    for block, maker in ((1, writers[1]), (0, writers[0]), (2, writers[1])):
        made = pickle.loads(pickle.dumps(maker.made(block, Maker(store))))
        assert block in writers[0].pending, "what is made is not yet written"
        writers[0].keep(block, made)
    assert writers[1].views == 20, "a writer knows what the other has written"
    assert writers[0].written.changed == whole.changed
    assert (tmp_path / "one" / "views.npy").read_bytes() == (tmp_path / "two" / "views.npy").read_bytes()


class Small(Maker):
    """On a device that has memory for so many tiles at a time."""

    def __init__(self, store: TileStore, room: int) -> None:
        super().__init__(store)
        self.room, self.made = room, []

    def __call__(self, tiles: Tensor, which: int) -> tuple[Tensor, float]:
        self.made.append(len(tiles))
        if len(tiles) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(tiles, which)


def test_where_memory_is_short_fewer_tiles_are_made_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = tile_store(tmp_path / "tiles")
    for name in ("roomy", "small"):
        (tmp_path / name).mkdir()
    whole, small = write_views(tmp_path / "roomy", store, 1, 8, Maker(store)), Small(store, 3)
    assert write_views(tmp_path / "small", store, 1, 8, small).changed == whole.changed
    assert small.made == [8, 4, 2, 2, 2, 2, 2], "what was found is kept for the next block"
    assert (tmp_path / "roomy" / "views.npy").read_bytes() == (tmp_path / "small" / "views.npy").read_bytes()
    assert "going on with 2 tiles at a time" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: the device has not enough memory for one tile"):
        write_views(tmp_path / "none", store, 1, 8, Small(store, 0))


def test_a_finished_store_is_not_made_again(tmp_path: Path) -> None:
    store = tile_store(tmp_path / "tiles")
    (tmp_path / "views").mkdir()
    first = write_views(tmp_path / "views", store, 1, 4, Maker(store))
    assert write_views(tmp_path / "views", store, 1, 4, Maker(store, dies_at=0)) == first


def test_a_store_is_pickled_by_its_path(tmp_path: Path) -> None:
    store = tile_store(tmp_path / "tiles")
    (tmp_path / "views").mkdir()
    write_views(tmp_path / "views", store, 1, 4, Maker(store))
    made = ViewStore(tmp_path / "views")
    tiles, which = store.index("train")[:3], torch.zeros(3, dtype=torch.long)
    content = pickle.dumps(made)
    assert len(content) < 500
    assert torch.equal(pickle.loads(content).read(tiles, which), made.read(tiles, which))


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tile_store(tmp_path / "tiles")
    monkeypatch.setattr(view_store.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    (tmp_path / "views").mkdir()
    with pytest.raises(UserError, match=r"needs 5\.12 kB for its views, and 1 kB are free"):
        write_views(tmp_path / "views", store, 1, 4, Maker(store))
    assert not list((tmp_path / "views").iterdir())


def test_missing_views_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gcl-custom make-views"):
        ViewStore(tmp_path)


class Comparer:
    """A similarity that is a function of the pixels and of the block; it may die at some block."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at, self.calls = dies_at, 0

    def __call__(self, tiles: Tensor, raw: Tensor) -> Tensor:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return raw.float().mean(dim=(2, 3, 4)) / 255 + tiles.sum() / 1000


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_similarities_are_written_beside_the_views_and_go_on_where_they_stopped(
    tmp_path: Path, dtype: str, dies_at: int
) -> None:
    store = tile_store(tmp_path / "tiles", dtype)
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
        write_views(tmp_path / name, store, 2, 4, Maker(store))
    write_similarity(tmp_path / "whole", store, 4, Comparer(), lambda: None)
    with pytest.raises(KeyboardInterrupt):
        write_similarity(tmp_path / "resumed", store, 4, Comparer(dies_at), lambda: None)
    again = Comparer()
    write_similarity(tmp_path / "resumed", store, 4, again, lambda: None)
    assert again.calls == 3 - dies_at, "finished blocks are not compared again"
    content = [(tmp_path / name / "similarity.npy").read_bytes() for name in ("whole", "resumed")]
    assert content[0] == content[1]
    made, train = ViewStore(tmp_path / "whole"), store.index("train")
    assert made.similarity.shape == (10, 2)
    raw = torch.stack([made.read(train[:4], torch.full((4,), which)) for which in (0, 1)], dim=1)
    torch.testing.assert_close(made.similarity[:4], Comparer()(train[:4], raw))


def test_views_are_told_apart_by_a_threshold(tmp_path: Path) -> None:
    store = tile_store(tmp_path / "tiles")
    (tmp_path / "views").mkdir()
    write_views(tmp_path / "views", store, 2, 4, Maker(store))
    train = store.index("train")
    np.save(tmp_path / "views" / "similarity.npy", np.linspace(0, 1, 20, dtype=np.float32).reshape(10, 2))
    made = ViewStore(tmp_path / "views")
    assert made.similar(train[[9, 0, 4]], 9 / 19).tolist() == [[True, True], [False, False], [False, True]]
    assert made.similar(train, -1.0).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("views.npy", 100), ("views.npy", 0.5), ("views.npy", b"random bytes"), ("views.npy", np.zeros((3, 2))),
        ("tiles.npy", 0), ("tiles.npy", 0.5), ("tiles.npy", np.array([1, 0])), ("tiles.npy", np.array([2.5])),
        ("tiles.npy", np.array([{}], dtype=object)),
    ],
)  # fmt: skip
def test_damaged_files_are_named_with_the_command_that_makes_them(
    tmp_path: Path, name: str, content: float | bytes | np.ndarray
) -> None:
    (tmp_path / "run" / "views").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").touch()
    store = tile_store(tmp_path / "tiles")
    write_views(tmp_path / "run" / "views", store, 1, 4, Maker(store))
    path = tmp_path / "run" / "views" / name
    whole = path.read_bytes()
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        cut = int(content * len(whole) if isinstance(content, float) else content) if content != b"random bytes" else 0
        path.write_bytes(whole[:cut] or b"random bytes")
    with pytest.raises(
        UserError, match=rf"{path} is damaged.*Remove the folder .*type: gcl-custom make-views --run run:"
    ):
        ViewStore(path.parent)


def test_a_new_store_has_its_room_at_once(tmp_path: Path) -> None:
    """A memory map takes room as it is written; on a full disk the process would then end without a message."""
    store = tile_store(tmp_path / "tiles")
    ViewWriter(tmp_path, store, 2, 4)
    state = (tmp_path / "views.npy").stat()
    assert state.st_blocks * 512 >= state.st_size
