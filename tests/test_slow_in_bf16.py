"""Depthwise convolutions and attention where bf16 is slow."""

import copy

import pytest
import timm
import torch
from timm.layers.attention2d import Attention2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from gcl_custom.slow_in_bf16 import avoid_slow_kernels, is_depthwise

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
    avoid_slow_kernels(ours)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    wanted = gradients(plain, tiles)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(gradients(ours, tiles), wanted, rtol=0, atol=0)
        assert not torch.equal(gradients(plain, tiles)[0].float(), wanted[0])


@pytest.mark.parametrize("plain", CONVOLUTIONS)
def test_without_a_gradient_it_is_left_in_bf16(plain: nn.Module) -> None:
    ours, tiles = copy.deepcopy(plain), torch.randn(4, 6, 8, 8)
    avoid_slow_kernels(ours)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(tiles).dtype == torch.bfloat16
        torch.testing.assert_close(ours(tiles), plain(tiles), rtol=0, atol=0)


def test_other_convolutions_are_left_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 6, 1))
    avoid_slow_kernels(network)
    assert {type(part) for part in network} == {nn.Conv2d}
    assert is_depthwise(nn.Conv2d(6, 12, 3, groups=6))


def asked(attention: str, network: nn.Module, tiles: Tensor) -> tuple[int, Tensor]:
    """How often a pass asked for torch's fused attention, and what it gave."""
    with torch.profiler.profile() as seen:
        found = network(tiles)
    return sum(event.count for event in seen.key_averages() if event.key == attention), found.detach().float()


def test_attention_is_fused_but_where_a_gradient_in_bf16_follows() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=2)
    plain, tiles, fused = copy.deepcopy(network), torch.randn(2, 3, 32, 32), "aten::scaled_dot_product_attention"
    avoid_slow_kernels(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        times, written_out = asked(fused, network, tiles)
        assert times == 0
        torch.testing.assert_close(written_out, asked(fused, plain, tiles)[1], rtol=0.05, atol=0.05)
        with torch.no_grad():
            assert asked(fused, network, tiles)[0] == 2
        many = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=272, depth=1)
        avoid_slow_kernels(many)
        assert asked(fused, many, torch.randn(1, 3, 272, 272))[0] == 1  # 290 tokens
        of_maps = Attention2d(16, num_heads=2)
        avoid_slow_kernels(of_maps)
        assert asked(fused, of_maps, torch.randn(1, 16, 20, 20))[0] == 1  # 400 tokens, of 16 channels
    times, in_fp32 = asked(fused, network, tiles)
    assert times == 2
    torch.testing.assert_close(in_fp32, plain(tiles).detach(), rtol=0, atol=0)
