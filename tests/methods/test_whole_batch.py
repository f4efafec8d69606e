"""Two processes with half the batch each against one with all of it: every method, batch normalisation included."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from gcl_custom.methods.by_name import METHODS
from gcl_custom.recipe.methods import (
    BarlowTwinsSettings,
    ByolSettings,
    DinoSettings,
    LeJEPASettings,
    SimCLRSettings,
    SwavSettings,
    VICRegSettings,
)
from gcl_custom.recipe.section import Section
from gcl_custom.training import batch_norm, processes

TILES, STEPS, LARGE, SMALL = 12, 3, 6, 4
SETTINGS: Mapping[str, Section] = {
    "vicreg": VICRegSettings(projector=[16, 24]),
    "barlow_twins": BarlowTwinsSettings(name="barlow_twins", projector=[16, 24]),
    "simclr": SimCLRSettings(name="simclr", projector=[16, 8]),
    "byol": ByolSettings(name="byol", projector=[16, 8]),
    "dino": DinoSettings(name="dino", projector=[16, 8], outputs=10, frozen=0),
    "swav": SwavSettings(name="swav", projector=[16, 8], prototypes=10, queue=12, queue_from=0.0, frozen=0),
    "lejepa": LeJEPASettings(name="lejepa", projector=[16, 8], slices=20, regularisation=0.5),
}


def backbone() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12)
    )


def trained(name: str, share: slice) -> dict[str, Tensor]:
    """Gradients of a few steps on a share of the batch, averaged over processes as DDP does, and the state after."""
    torch.manual_seed(0)
    network = backbone().double()
    method = METHODS[name](network, 12, SETTINGS[name]).double()
    whole = nn.ModuleDict({"backbone": network, "method": method})
    batch_norm.join_batch_norms(whole)
    optimizer = torch.optim.SGD([weight for weight in whole.parameters() if weight.requires_grad], lr=0.05)
    rng, found = torch.Generator().manual_seed(1), {}
    for step in range(STEPS):
        sizes = (LARGE, LARGE, SMALL)
        batch = [torch.randn(TILES, 3, size, size, generator=rng, dtype=torch.float64) for size in sizes]
        views = [view[share] for view in batch]
        loss = torch.stack(list(method([network(view) for view in views], views, step / STEPS).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        for weight_name, weight in whole.named_parameters():
            if weight.grad is not None:
                weight.grad = processes.sum_over(weight.grad) / processes.count()
                found[f"gradient {step} {weight_name}"] = weight.grad.clone()
        optimizer.step()
        method.follow(network, step / STEPS)
    return found | {f"state {key}": value for key, value in whole.state_dict().items()}


def in_a_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    half = TILES // 2
    for name in SETTINGS:
        torch.save(trained(name, slice(rank * half, (rank + 1) * half)), f"{folder}/{name}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    multiprocessing.spawn(in_a_process, args=(str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_with_half_the_batch_equal_one_with_all_of_it(name: str, halves: Path) -> None:
    whole = trained(name, slice(None))
    assert any(key.startswith("gradient 2 backbone") for key in whole)
    for rank in range(2):
        found = torch.load(halves / f"{name}-{rank}.pt", weights_only=True)
        assert found.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}")
