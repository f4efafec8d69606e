"""LARS against lightly's and a slow formula."""

import copy

import pytest
import timm
import torch
from lightly.utils.lars import LARS as LightlyLARS  # noqa: N811
from timm.optim import param_groups_weight_decay
from torch import nn

from gcl_custom.recipe.pretraining import AdamWSettings, LarsSettings
from gcl_custom.training.optimizers import LARS, exempt_in_timm, make, without_decay


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        tiles = torch.randn(10, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(tiles).square().mean().backward()
        optimizer.step()


def test_lars_is_the_slow_formula() -> None:
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = LARS([weight], lr=0.3, momentum=0.9, weight_decay=0.01)
    expected, velocity = weight.detach().clone(), torch.zeros(5, 3)
    for _ in range(4):
        gradient = torch.randn(5, 3)
        decayed = gradient + 0.01 * expected
        velocity = 0.9 * velocity + 0.001 * expected.norm() / decayed.norm() * decayed
        expected = expected - 0.3 * velocity
        weight.grad = gradient
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("decay", [1e-8, 1e-4])
def test_lars_agrees_with_lightlys(decay: float) -> None:
    """The trust ratios' denominators differ by less than the decay, ‖g + βw‖ against ‖g‖ + β‖w‖."""
    ours, theirs = network(), network()
    vectors = {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0}
    matrices = {"params": [p for p in theirs.parameters() if p.ndim > 1]}
    settings = LarsSettings(learning_rate=0.5, weight_decay=decay)
    train(ours, make(settings, ours, 256), 20)
    train(theirs, LightlyLARS([matrices, vectors], lr=0.5, momentum=0.9, weight_decay=decay), 20)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [LarsSettings(), AdamWSettings(name="adamw")])
def test_state_makes_resumption_exact(settings: LarsSettings | AdamWSettings) -> None:
    undisturbed = network()
    train(undisturbed, make(settings, undisturbed, 64), 6)
    net = network()
    optimizer = make(settings, net, 64)
    train(net, optimizer, 3)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    resumed = network()
    resumed.load_state_dict(saved[0])
    optimizer = make(settings, resumed, 64)
    optimizer.load_state_dict(saved[1])
    train(resumed, optimizer, 3, start=3)
    for a, b in zip(resumed.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_biases_and_normalisation_are_exempt() -> None:
    net = network()
    matrices, vectors = make(LarsSettings(weight_decay=0.1), net, 256).param_groups
    assert [p.ndim for p in matrices["params"]] == [2, 2]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1, 1]
    assert (matrices["weight_decay"], matrices["adaptive"]) == (0.1, True)
    assert (vectors["weight_decay"], vectors["adaptive"]) == (0.0, False)


@pytest.mark.parametrize(
    ("name", "free", "decayed"),
    [("vit_tiny_patch16_224", ["pos_embed", "cls_token"], ["blocks.0.attn.qkv.weight", "patch_embed.proj.weight"]),
     ("swin_tiny_patch4_window7_224", ["layers.1.blocks.0.attn.relative_position_bias_table"],
      ["layers.1.blocks.0.attn.qkv.weight"]),
     ("resnet10t", [], ["layer1.0.conv1.weight"])],
)  # fmt: skip
def test_under_adamw_what_timm_exempts_is_exempt(name: str, free: list[str], decayed: list[str]) -> None:
    """The network lies within another module, as it does in training; timm's own grouping is the reference."""
    network = timm.create_model(name, num_classes=0)
    module = nn.ModuleDict({"backbone": network, "method": nn.Linear(4, 4)})
    with_decay, without = make(AdamWSettings(name="adamw", weight_decay=0.1), module, 256).param_groups
    names = {id(weight): name for name, weight in module.named_parameters()}
    kept = {names[id(weight)] for weight in without["params"]}
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.1, 0.0)
    assert {f"backbone.{name}" for name in free} <= kept
    assert {f"backbone.{name}" for name in decayed} <= {names[id(weight)] for weight in with_decay["params"]}
    stated = getattr(network, "no_weight_decay", set)
    reference = param_groups_weight_decay(network, no_weight_decay_list=stated())
    theirs = {names[id(weight)] for weight in reference[0]["params"]}
    assert kept == theirs | {"method.bias"}


def test_groups_hold_every_weight_once_in_their_order() -> None:
    net = network()
    decayed, free = without_decay(net, {"0.weight"})
    assert [id(w) for w in free["params"]] == [id(net[0].weight)]
    assert [id(w) for w in decayed["params"]] == [id(w) for name, w in net.named_parameters() if name != "0.weight"]
    assert exempt_in_timm(net) == set()


def test_frozen_weights_stay() -> None:
    net = network()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    train(net, make(AdamWSettings(name="adamw"), net, 256), 2)
    assert torch.equal(net[0].weight, before)


def test_learning_rate_grows_with_the_batch() -> None:
    rates = [make(LarsSettings(learning_rate=0.2), network(), batch).param_groups[0]["lr"] for batch in (128, 512)]
    assert rates == pytest.approx([0.1, 0.4])
