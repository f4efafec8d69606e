import pytest
import torch
from torch import nn

from gcl_custom.training import batch_norm


def test_joined_batch_norms_keep_weights_names_and_what_they_do_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
    tiles, names = torch.randn(6, 3, 2, 2), list(net.state_dict())
    expected = [net(tiles), net.eval()(tiles)]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for module in net:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    batch_norm.join_batch_norms(net)
    found = [net.train()(tiles), net.eval()(tiles)]
    assert list(net.state_dict()) == names
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_a_batch_without_statistics_is_normalised_alike_and_leaves_none() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
    net[1].momentum = None
    tiles, other = torch.randn(2, 6, 3, 2, 2) * 3
    net(tiles)
    means = [net[place].running_mean.clone() for place in (1, 4)]
    variances = [net[place].running_var.clone() for place in (1, 4)]
    with batch_norm.without_statistics(net):
        found = net(other)
    assert (net[1].momentum, net[4].momentum) == (None, 0.1)
    for place, mean, variance in zip((1, 4), means, variances, strict=True):
        assert torch.equal(net[place].running_mean, mean)
        assert torch.equal(net[place].running_var, variance)
        assert net[place].num_batches_tracked == 1, "a norm without momentum weighs a batch by their number"
    assert torch.equal(found, net(other))
    assert not torch.equal(net[4].running_mean, means[1])


def test_momenta_come_back_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="more than 1 value"), batch_norm.without_statistics(norm):
        norm(torch.zeros(1, 2))
    assert norm.momentum == 0.1
