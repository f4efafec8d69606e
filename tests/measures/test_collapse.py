"""Signs of collapse against closed forms."""

import math

import pytest
import torch

from gcl_custom.measures import collapse


def test_effective_rank_of_orthogonal_rows_is_their_number() -> None:
    assert collapse.effective_rank(torch.eye(16, 40)) == pytest.approx(16, rel=1e-3)


def test_effective_rank_of_one_direction_is_one() -> None:
    assert collapse.effective_rank(torch.rand(20, 1) @ torch.rand(1, 8)) == pytest.approx(1, rel=1e-3)


def test_effective_rank_of_known_singular_values() -> None:
    left, right = (torch.linalg.qr(torch.randn(30, 3))[0] for _ in range(2))
    matrix = left @ torch.diag(torch.tensor([2.0, 1.0, 1.0])) @ right.T
    entropy = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    assert collapse.effective_rank(matrix) == pytest.approx(math.exp(entropy), rel=1e-3)


def test_effective_rank_does_not_change_with_scale() -> None:
    matrix = torch.randn(20, 10)
    assert collapse.effective_rank(matrix) == pytest.approx(collapse.effective_rank(50 * matrix), rel=1e-4)


def test_std_of_even_directions_is_one_and_of_equal_ones_zero() -> None:
    torch.manual_seed(0)
    assert collapse.embedding_std(torch.randn(4000, 64)) == pytest.approx(1, abs=0.01)
    assert collapse.embedding_std(torch.rand(4000, 1) * torch.rand(64)) == pytest.approx(0, abs=1e-5)


def test_std_of_opposite_pairs() -> None:
    axes = torch.cat([torch.eye(4), -torch.eye(4)]).repeat(500, 1)
    assert collapse.embedding_std(3 * axes) == pytest.approx(1, rel=1e-3)


def test_warns_in_words_only_of_collapse() -> None:
    assert collapse.warning(std=0.6, rank=40.0) is None
    assert "learning_rate" in (collapse.warning(std=0.01, rank=40.0) or "")
    assert "effective rank 1.0" in (collapse.warning(std=0.6, rank=1.0) or "")


def test_equal_representations_have_finite_figures() -> None:
    zeros = torch.zeros(8, 4)
    assert math.isfinite(collapse.effective_rank(zeros))
    assert collapse.embedding_std(zeros) == 0
