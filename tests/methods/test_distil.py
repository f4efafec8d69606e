"""A method without terms of its own."""

import torch
from pretraining_runs import SMALL_HEADS
from torch import nn

from gcl_custom.methods.by_name import METHODS
from gcl_custom.methods.distil import Distil
from gcl_custom.recipe.methods import DistilSettings


def test_it_compares_no_views_and_keeps_the_backbone() -> None:
    backbone = nn.Linear(3, 4)
    method = Distil(backbone, 4, DistilSettings(name="distil"))
    views = [torch.randn(2, 3), torch.randn(2, 3)]
    assert method([backbone(view) for view in views], views, 0.5) == {}
    assert method.kept(backbone) is backbone
    assert not list(method.parameters())


def test_every_other_method_has_small_settings_for_tests() -> None:
    """So that a new method cannot be left out of the tests that go over all of them."""
    assert METHODS.keys() == {*SMALL_HEADS, "distil"}
