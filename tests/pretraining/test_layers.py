"""Which layers of a backbone are trained, and how fast."""

from pathlib import Path

import pytest
import timm
import torch
from pretraining_runs import with_changes
from started_runs import LITE0, started_run
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import layers
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch
from gcl_custom.training.optimizers import slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return started_run(tmp_path_factory.mktemp("layers"))


def module_of(run: Run, steps: int = 4, **changes: object) -> tuple[Contrastive, Reader]:
    settings = run.recipe.pretrain.model_copy(update=changes)
    reader = Reader(run, settings)
    return Contrastive(TileStore(plan.tiles(run).path), reader, settings, steps, batch=8, seed=0), reader


def changed_by_steps(module: Contrastive, reader: Reader, steps: int) -> set[str]:
    """Names of the parameters and statistics of the backbone that some steps of the optimizer change."""
    before = {name: value.clone() for name, value in module.backbone.state_dict().items()}
    optimizer = module.make_optimizer()
    tiles = torch.arange(8)
    for step in range(steps):
        loss = module.training_step(Batch(step, tiles, reader(tiles)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name for name, value in module.backbone.state_dict().items() if not torch.equal(value, before[name])}


def test_layers_are_the_blocks_of_the_network_from_the_stem_on() -> None:
    network = timm.create_model("resnet18", num_classes=0)
    found = layers.layers(network, "resnet18")
    assert len(found) == 9, "the stem and eight blocks"
    assert found[0][0] is network.conv1.weight
    assert any(parameter is network.layer4[1].conv2.weight for parameter in found[-1])
    assert sum(map(len, found)) == len(list(network.parameters()))


def test_a_network_that_timm_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="timm does not divide plain into layers"):
        layers.layers(nn.Linear(2, 2), "plain")


def test_only_the_last_layers_are_trained(run: Run) -> None:
    changed = changed_by_steps(*module_of(run, trained_layers=1), steps=2)
    assert changed == {f"network.{name}" for name in ("blocks.6.0.conv_pw.weight", "blocks.6.0.conv_dw.weight",
                                                       "blocks.6.0.conv_pwl.weight", "conv_head.weight")}  # fmt: skip


def test_more_layers_than_there_are_are_refused(run: Run) -> None:
    with pytest.raises(UserError, match=f"trained_layers is 40, but {LITE0} has 17 layers"):
        module_of(run, trained_layers=40)


@pytest.mark.parametrize("norms", ["frozen", "trained"])
def test_the_backbone_rests_while_heads_learn(run: Run, norms: str) -> None:
    """Statistics of batch norms included; afterwards it is trained as without the key."""
    module, reader = module_of(run, heads_first=0.5, norms=norms)
    modes = [part.training for part in module.modules()]
    assert not changed_by_steps(module, reader, steps=2)
    assert [part.training for part in module.modules()] == modes
    module, reader = module_of(run, heads_first=0.5, norms=norms)
    changed = changed_by_steps(module, reader, steps=3)
    assert "network.conv_stem.weight" in changed
    assert ("network.bn1.running_mean" in changed) == (norms == "trained")


def test_heads_learn_from_the_first_step(run: Run) -> None:
    module, reader = module_of(run, heads_first=1.0)
    before = {name: value.clone() for name, value in module.method.named_parameters()}
    assert not changed_by_steps(module, reader, steps=1)
    assert all(not torch.equal(value, before[name]) for name, value in module.method.named_parameters())


def test_each_layer_learns_more_slowly_than_the_next(run: Run) -> None:
    module, _ = module_of(run, layer_decay=0.5)
    rates: dict[int, float] = {
        id(weight): group["lr"] for group in module.make_optimizer().param_groups for weight in group["params"]
    }
    weights = dict(module.backbone.network.named_parameters())
    top = rates[id(weights["conv_head.weight"])]
    assert rates[id(weights["blocks.5.3.conv_pw.weight"])] == top / 2
    assert rates[id(weights["conv_stem.weight"])] == top / 2**16
    assert {rates[id(weight)] for weight in module.method.parameters()} == {top}
    assert len(rates) == sum(weight.requires_grad for weight in module.parameters())


def test_a_share_of_the_rate_moves_a_weight_by_that_share() -> None:
    """Plain gradient descent: the step is the rate times the gradient."""
    fast, slowed = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    optimizer = torch.optim.SGD([fast, slowed], lr=0.1)
    shares: dict[Tensor, float] = {slowed: 0.25}
    slow(optimizer, shares)
    (2 * fast + 2 * slowed).sum().backward()
    optimizer.step()
    torch.testing.assert_close(fast.data, torch.full((3,), -0.2))
    torch.testing.assert_close(slowed.data, torch.full((3,), -0.05))


@pytest.mark.parametrize("key", ["heads_first", "trained_layers"])
def test_without_a_start_there_is_nothing_to_keep(key: str, tmp_path: Path) -> None:
    values = with_changes().model_dump() | {key: 1}
    with pytest.raises(ValueError, match="keep what a start knows, and there is none"):
        PretrainSettings.model_validate(values)
