import copy

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.pretraining import backbones, start
from gcl_custom.pretraining.folded_norms import fold_norms


def unfolded(name: str, size: int = 64) -> nn.Module:
    """A network in double precision whose norms have seen tiles, so that none of their statistics is trivial."""
    torch.manual_seed(0)
    network = backbones.build(name, 3)[0].double()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
            part.momentum = None
    network(torch.rand(8, 3, size, size, dtype=torch.float64))
    start.fix_norms(network, "affine")
    return network


@pytest.mark.parametrize(
    ("name", "norms", "side"),
    [("resnet18", 20, 64), ("tf_efficientnet_lite0", 49, 64), ("tf_efficientnet_lite0", 49, 32)],
)
def test_folded_network_is_the_same_function_with_the_same_gradients(name: str, norms: int, side: int) -> None:
    """For tiles of another size too, as small crops are."""
    plain = unfolded(name)
    folded = copy.deepcopy(plain)
    assert fold_norms(folded.float(), 3, 64) == norms
    folded.double()
    folded.load_state_dict(plain.state_dict())
    tiles = torch.rand(4, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss_and_gradients(network: nn.Module) -> list[Tensor]:
        said = network(tiles)
        return [said.detach(), *torch.autograd.grad(said.square().sum(), list(network.parameters()))]

    for found, wanted in zip(loss_and_gradients(folded), loss_and_gradients(plain), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))


def test_nothing_that_is_kept_or_trained_changes_its_name_or_value() -> None:
    network = unfolded("resnet18").float()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = dict(network.named_parameters())
    modes = [part.training for part in network.modules()]
    fold_norms(network, 3, 64)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert all(parameters[name] is parameter for name, parameter in network.named_parameters())
    assert [part.training for part in network.modules()] == modes


def test_copy_folds_its_own_norms() -> None:
    network = unfolded("resnet18").float()
    fold_norms(network, 3, 64)
    tiles = torch.rand(2, 3, 64, 64)
    before = network(tiles)
    other = copy.deepcopy(network)
    for part in other.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.zeros_(part.weight)
    assert not torch.allclose(other(tiles), before)
    torch.testing.assert_close(network(tiles), before)


class ReadTwice(nn.Module):
    """What follows the convolution is read by the norm and by a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.weight, 2.0, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        found = self.convolution(x)
        return (found + self.norm(found)).mean((2, 3))


class UsedTwice(nn.Module):
    """One convolution, used with two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norms = nn.Conv2d(3, 3, 1, bias=False), nn.ModuleList([nn.BatchNorm2d(3)] * 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = norm(self.convolution(x))
        return x.mean((2, 3))


@pytest.mark.parametrize("network", [ReadTwice(), UsedTwice()])
def test_network_that_would_be_another_function_is_left_as_it_is(network: nn.Module) -> None:
    kinds = [type(part) for part in network.modules()]
    start.fix_norms(network, "frozen")
    tiles = torch.rand(2, 3, 8, 8)
    before = network(tiles)
    assert fold_norms(network, 3, 8) == 0
    assert [type(part) for part in network.modules()] == kinds
    torch.testing.assert_close(network(tiles), before, rtol=0, atol=0)


def test_convolution_with_a_bias_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    start.fix_norms(network, "frozen")
    assert fold_norms(network, 3, 4) == 0
