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


@pytest.mark.parametrize(
    ("size", "side", "bias"), [(1, 3, False), (1, 5, True), (2, 5, False), (2, 7, True), (4, 5, True)]
)
def test_depthwise_convolution_of_small_maps_is_the_convolution(size: int, side: int, bias: bool) -> None:
    plain = nn.Conv2d(6, 6, side, padding=side // 2, groups=6, bias=bias).double()
    ours = small_maps.SmallDepthwiseConv2d(6, 6, side, padding=side // 2, groups=6, bias=bias).double()
    assert ours.suits(plain)
    ours.load_state_dict(plain.state_dict())
    tiles = torch.randn(4, 6, size, size + 1, dtype=torch.float64, requires_grad=True)
    expected, found = plain(tiles), ours(tiles)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [tiles, *plain.parameters()])
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), [tiles, *ours.parameters()]), wanted)


def test_depthwise_convolution_that_changes_the_size_of_its_map_is_none() -> None:
    assert not small_maps.SmallDepthwiseConv2d.suits(nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6))
    assert not small_maps.SmallDepthwiseConv2d.suits(nn.Conv2d(6, 6, 3, groups=6))
    assert not small_maps.SmallDepthwiseConv2d.suits(nn.Conv2d(6, 6, 3, padding=1, groups=3))
