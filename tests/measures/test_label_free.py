"""LiDAR against closed forms, a slow formula, and what must not change it."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from gcl_custom.measures.label_free import DELTA, lidar


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread_evenly(n: int, d: int, seed: int = 0) -> Tensor:
    """Rows whose mean is zero and whose covariance is exactly the identity over n - 1."""
    return torch.linalg.qr(torch.cat([torch.ones(n, 1, dtype=torch.float64), draw(n, d, seed=seed)], 1)).Q[:, 1:]


def rotated(x: Tensor) -> Tensor:
    return x @ torch.linalg.qr(draw(x.shape[-1], x.shape[-1], seed=9)).Q


def slow_lidar(z: np.ndarray, delta: float) -> float:
    """The paper's formula in loops, with the generalised eigenvalues of scipy."""
    n, q, d = z.shape
    means, whole = z.mean(1), z.mean((0, 1))
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        between += np.outer(means[i] - whole, means[i] - whole) / (n - 1)
        for j in range(q):
            within += np.outer(z[i, j] - means[i], z[i, j] - means[i]) / (n * (q - 1))
    within += delta * (np.trace(between) + np.trace(within)) / d * np.eye(d)
    shares = scipy.linalg.eigh(between, within, eigvals_only=True)
    shares = shares[shares > 0] / shares.sum()
    return math.exp(-sum(share * math.log(share) for share in shares))


@pytest.mark.parametrize(("n", "d"), [(30, 6), (5, 12)])
def test_lidar_is_the_slow_formula(n: int, d: int) -> None:
    z = draw(n, 1, d) * torch.linspace(0.1, 3, d) + 0.7 * rotated(draw(n, 4, d, seed=1) * torch.linspace(2, 0.2, d))
    for delta in (DELTA, 0.5):
        assert lidar(z, delta) == pytest.approx(slow_lidar(z.numpy(), delta), rel=1e-9)


def test_identical_views_of_evenly_spread_tiles_have_full_rank() -> None:
    assert lidar(spread_evenly(40, 8)[:, None].expand(40, 3, 8)) == pytest.approx(8, rel=1e-9)


def test_lidar_of_known_signal_to_noise() -> None:
    """Between the tiles variances 4 and 1, between the views equal ones: shares of 4/5 and 1/5."""
    means = spread_evenly(50, 2) * torch.tensor([2.0, 1.0])
    z = torch.stack([means + 0.1, means - 0.1, means + torch.tensor([0.1, -0.1]), means - torch.tensor([0.1, -0.1])], 1)
    expected = math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    assert lidar(z, delta=1e-12) == pytest.approx(expected, rel=1e-6)


def test_a_direction_in_which_views_differ_most_counts_least() -> None:
    """Tiles spread evenly over two directions; noise of the views in one of them leaves one effective direction."""
    means = spread_evenly(50, 2)[:, None].expand(50, 2, 2)
    noisy = means + torch.tensor([[[10.0, 0.0], [-10.0, 0.0]]])
    assert lidar(means) == pytest.approx(2, rel=1e-9)
    assert lidar(noisy) < 1.01


def test_lidar_of_collapse_is_one() -> None:
    one_direction = draw(20, 1, 1) * torch.ones(1, 3, 5, dtype=torch.float64)
    assert lidar(one_direction) == pytest.approx(1, abs=1e-6)
    one_point = draw(1, 1, 5)
    assert lidar(one_point.repeat(20, 3, 1)) == 1


@pytest.mark.parametrize(
    "change", [rotated, lambda z: 1e3 * z, lambda z: 1e-3 * z, lambda z: z + 5, lambda z: z.flip(0)]
)
def test_rotation_scale_shift_and_order_change_nothing(change: object) -> None:
    z = draw(25, 1, 7) * torch.linspace(0.2, 2, 7) + 0.3 * draw(25, 3, 7, seed=1)
    moved = change(z)  # type: ignore[operator]
    assert lidar(moved) == pytest.approx(lidar(z), rel=1e-7)


def test_lidar_refuses_what_has_no_scatter() -> None:
    with pytest.raises(ValueError, match="two tiles and two views"):
        lidar(draw(5, 1, 3))
