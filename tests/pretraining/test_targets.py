"""How targets are read, and how well views predict them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.pretraining.targets import FEATURES, TILES, Prediction, TargetStore, column_moments


def store_of(folder: Path, features: np.ndarray, tiles: list[int]) -> TargetStore:
    np.save(folder / FEATURES, features.astype(np.float32))
    np.save(folder / TILES, np.array(tiles))
    return TargetStore(folder)


def test_features_are_standardised_over_the_training_tiles(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(3, [1, 5, 0], size=(50, 3))
    store = store_of(tmp_path, features, list(range(10, 110, 2)))
    found = store.read(torch.arange(10, 110, 2)).numpy()
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), [1, 1, 0], atol=1e-5)  # the last never varies
    np.testing.assert_array_equal(store.read(torch.tensor([14, 12])).numpy(), found[[2, 1]])
    assert store.width == 3


@pytest.mark.parametrize("shape", [(50, 3), (37, 200), (7, 1), (1, 4)])
def test_moments_by_blocks_are_those_of_all_rows_at_once(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    mean, deviation = column_moments(rows, block=7)
    np.testing.assert_array_equal(mean, rows.mean(0, dtype=np.float64))
    np.testing.assert_array_equal(deviation, rows.std(0, dtype=np.float64))


def test_a_folder_without_targets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no targets .*gcl-custom pretrain"):
        TargetStore(tmp_path)


@pytest.mark.parametrize(("name", "length"), [(FEATURES, 150), (FEATURES, 3), (TILES, 3)])
def test_damaged_targets_are_named_with_what_to_do(name: str, length: int, tmp_path: Path) -> None:
    store_of(tmp_path, np.zeros((5, 3)), list(range(5)))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    with pytest.raises(UserError, match=rf"{name} is damaged .*Remove the folder {tmp_path}"):
        TargetStore(tmp_path)


def test_targets_of_other_tiles_are_refused(tmp_path: Path) -> None:
    store_of(tmp_path, np.zeros((5, 3)), list(range(5)))
    np.save(tmp_path / TILES, np.arange(4))
    with pytest.raises(UserError, match=r"it holds \(5, 3\), not \(4,\)"):
        TargetStore(tmp_path)


@pytest.mark.parametrize(("matrix", "expected"), [([[2.0, 0], [0, 2]], 0.0), ([[0, -1], [1, 0]], 1.0),
                                                  ([[-1, 0], [0, -1]], 2.0)])  # fmt: skip
def test_the_loss_is_the_weight_times_one_less_the_cosine(matrix: list[list[float]], expected: float) -> None:
    """A multiple of the target costs nothing, a right angle the weight, and the opposite twice the weight."""
    prediction = Prediction(2, 2, weight=3.0)
    with torch.no_grad():
        prediction.linear.weight.copy_(torch.tensor(matrix))
        prediction.linear.bias.zero_()
    targets = torch.randn(7, 2)
    torch.testing.assert_close(prediction([targets, 5 * targets], targets), torch.tensor(3.0 * expected))


def test_all_views_count_alike() -> None:
    prediction, (one, two) = Prediction(4, 5, weight=1.0), torch.randn(2, 6, 4)
    targets = torch.randn(6, 5)
    each = [prediction([view], targets) for view in (one, two)]
    torch.testing.assert_close(prediction([one, two], targets), (each[0] + each[1]) / 2)


def test_a_linear_map_is_found() -> None:
    """Representations that hold the targets linearly come to predict them."""
    torch.manual_seed(0)
    seen = torch.randn(64, 8)
    targets = seen @ torch.randn(8, 3)
    prediction: nn.Module = Prediction(8, 3, weight=1.0)
    optimizer = torch.optim.Adam(prediction.parameters(), 0.05)
    for _ in range(200):
        loss = prediction([seen], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
