"""Barlow Twins against lightly's loss and its equation."""

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import nn

from gcl_custom.methods.barlow_twins import BarlowTwins, cross_correlation, standardised
from gcl_custom.recipe.methods import BarlowTwinsSettings

SHAPES = [(8, 32), (40, 12), (16, 16)]


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_terms_add_up_to_lightlys_loss_with_its_gradient(n: int, d: int) -> None:
    method = BarlowTwins(nn.Identity(), d, BarlowTwinsSettings(name="barlow_twins", projector=[d]))
    method.projector = nn.Sequential(nn.Identity())
    first = torch.randn(n, d)
    second = (first + 0.5 * torch.randn(n, d)).requires_grad_()
    first.requires_grad_()
    ours = torch.stack(list(method([first, second], [], 0.0).values())).sum()
    theirs = BarlowTwinsLoss()(first, second)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    gradients = (torch.autograd.grad(loss, [first, second]) for loss in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_both_ways_of_the_redundancy_are_the_slow_formula(n: int, d: int) -> None:
    a, b = (standardised(torch.randn(n, d, dtype=torch.float64)) for _ in range(2))
    matrix = [[float((a[:, i] * b[:, j]).sum()) / n for j in range(d)] for i in range(d)]
    on, off = cross_correlation(a, b)
    assert float(on) == pytest.approx(sum((1 - matrix[i][i]) ** 2 for i in range(d)))
    assert float(off) == pytest.approx(sum(matrix[i][j] ** 2 for i in range(d) for j in range(d) if i != j))


def test_equal_views_without_redundancy_are_the_optimum() -> None:
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    on, off = cross_correlation(z, z)
    assert on == off == 0
