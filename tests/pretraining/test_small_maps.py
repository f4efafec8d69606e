import pytest
import torch
from torch import nn

from gcl_custom.pretraining import small_maps


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 1), (3, 1), (2, 2), (4, 2), (5, 2), (5, 1)])
def test_convolution_of_small_maps_is_the_convolution(size: int, stride: int) -> None:
    plain = nn.Conv2d(6, 5, 3, stride, padding=1, bias=False).double()
    ours = small_maps.SmallMapConv2d(6, 5, 3, stride, padding=1, bias=False).double()
    ours.load_state_dict(plain.state_dict())
    tiles = torch.randn(4, 6, size, size, dtype=torch.float64, requires_grad=True)
    expected, found = plain(tiles), ours(tiles)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [tiles, plain.weight])
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), [tiles, ours.weight]), wanted)
