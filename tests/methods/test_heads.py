import torch
from torch import nn

from gcl_custom.methods.heads import projector


def test_a_projector_has_the_widths_of_the_recipe() -> None:
    layers = list(projector([8, 16, 32, 24]))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
    assert projector([8, 16, 32, 24])(torch.randn(5, 8)).shape == (5, 24)
    assert [layer.bias is not None for layer in projector([8, 16, 4], bias=True) if isinstance(layer, nn.Linear)] == [
        False, True,
    ]  # fmt: skip
