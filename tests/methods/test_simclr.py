"""SimCLR against lightly's loss and its equation."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import nn

from gcl_custom.methods.simclr import SimCLR, nt_xent
from gcl_custom.recipe.methods import SimCLRSettings


def test_the_loss_is_lightlys_with_its_gradient() -> None:
    method = SimCLR(nn.Identity(), 12, SimCLRSettings(name="simclr", temperature=0.5, projector=[12]))
    method.projector = nn.Sequential(nn.Identity())
    first, second = (torch.randn(9, 12).requires_grad_() for _ in range(2))
    (ours,) = method([first, second], [], 0.0).values()
    theirs = NTXentLoss(temperature=0.5)(first, second)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = (torch.autograd.grad(loss, [first, second]) for loss in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_views_that_all_look_alike_are_found_by_chance() -> None:
    z = torch.ones(8, 4)
    assert float(nt_xent(z, z, 0.1)) == pytest.approx(math.log(15), abs=1e-4)


def test_tiles_at_right_angles_are_found_for_certain() -> None:
    z = torch.eye(8)
    assert float(nt_xent(z, z, 0.01)) == pytest.approx(0, abs=1e-6)
