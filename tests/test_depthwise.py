import copy

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from gcl_custom.depthwise import is_depthwise, train_depthwise_in_fp32

CONVOLUTIONS = [
    nn.Conv2d(6, 6, 3, padding=1, groups=6),
    nn.Conv2d(6, 12, 5, stride=2, padding=2, groups=6, bias=False),
    Conv2dSame(6, 6, 3, stride=2, groups=6),
]


def gradients(network: nn.Module, tiles: Tensor) -> list[Tensor]:
    found = network(tiles)
    return [found.detach(), *torch.autograd.grad(found.float().square().sum(), list(network.parameters()))]


@pytest.mark.parametrize("plain", CONVOLUTIONS)
def test_under_bf16_it_trains_as_in_fp32(plain: nn.Module) -> None:
    ours, tiles = copy.deepcopy(plain), torch.randn(4, 6, 8, 8)
    train_depthwise_in_fp32(ours)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    wanted = gradients(plain, tiles)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(gradients(ours, tiles), wanted, rtol=0, atol=0)
        assert not torch.equal(gradients(plain, tiles)[0].float(), wanted[0])


@pytest.mark.parametrize("plain", CONVOLUTIONS)
def test_without_a_gradient_it_is_left_in_bf16(plain: nn.Module) -> None:
    ours, tiles = copy.deepcopy(plain), torch.randn(4, 6, 8, 8)
    train_depthwise_in_fp32(ours)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(tiles).dtype == torch.bfloat16
        torch.testing.assert_close(ours(tiles), plain(tiles), rtol=0, atol=0)


def test_other_convolutions_are_left_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 6, 1))
    train_depthwise_in_fp32(network)
    assert {type(part) for part in network} == {nn.Conv2d}
    assert is_depthwise(nn.Conv2d(6, 12, 3, groups=6))
