import torch

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
