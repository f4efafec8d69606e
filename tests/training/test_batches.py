import pytest
import torch

from gcl_custom.errors import UserError
from gcl_custom.training.batches import Batches


def test_batches_cover_an_epoch_once_and_epochs_differ() -> None:
    batches = Batches(torch.arange(100, 126), 4, 0, read=lambda tiles: tiles * 2)
    first, second = list(batches), list(batches)
    assert len(batches) == len(first) == 6
    assert [batch.step for batch in first + second] == list(range(12))
    seen = torch.cat([batch.tiles for batch in first])
    assert len(seen.unique()) == 24
    assert set(seen.tolist()) <= set(range(100, 126))
    assert not torch.equal(seen, torch.cat([batch.tiles for batch in second]))
    assert all(torch.equal(batch.data, batch.tiles * 2) for batch in first)


def test_batches_go_on_in_mid_epoch() -> None:
    whole, resumed = (Batches(torch.arange(26), 4, 5, read=lambda tiles: tiles) for _ in range(2))
    expected = [batch.tiles for _ in range(2) for batch in whole]
    resumed.step = 4
    found = [batch.tiles for _ in range(2) for batch in resumed]
    assert all(torch.equal(a, b) for a, b in zip(found, expected[4:], strict=True))


def test_a_batch_that_shrinks_to_the_data_can_still_be_shared_out() -> None:
    assert Batches(torch.arange(101), 256, 0, read=lambda tiles: tiles, shares=2).batch == 100
    with pytest.raises(UserError, match="3 tiles cannot be trained on by 4 processes together"):
        Batches(torch.arange(3), 256, 0, read=lambda tiles: tiles, shares=4)


class Backwards:
    """A store that wants its tiles last first, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def order(self, index: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.arange(len(index)).flip(0)

    def fetch(self, index: torch.Tensor) -> None:
        self.told += index.tolist()


def test_a_store_says_the_order_and_is_told_of_tiles_before_they_are_read() -> None:
    store = Backwards()

    def read(tiles: torch.Tensor) -> torch.Tensor:
        assert set(tiles.tolist()) <= set(store.told)
        return tiles

    batches = Batches(torch.arange(100, 226), 4, 5, read, store)
    batches.step = 2
    found = torch.cat([batch.tiles for batch in batches]).tolist()
    assert found == list(range(225 - 8, 101, -1))
    assert store.told == found, "each once, in order"
