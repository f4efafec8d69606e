import pytest
import torch

from gcl_custom.evaluation import floors
from gcl_custom.evaluation.inference import infer
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.tile_features import BandStatistics
from gcl_custom.runs.run import Run


@pytest.mark.parametrize("name", ["statistics", "patches"])
def test_features_have_the_width_that_is_stated_and_depend_on_the_seed_alone(
    packed: Run, store: TileStore, name: str
) -> None:
    index = store.index("test")
    (network, width), (again, _) = (floors.features(store, name, seed=0) for _ in range(2))
    found = infer(network, store, index, packed.recipe.hardware)
    assert found.shape == (len(index), width)
    assert torch.equal(found, infer(again, store, index, packed.recipe.hardware))
    assert not list(network.parameters())


def test_statistics_are_those_of_unit_tiles(packed: Run, store: TileStore) -> None:
    index = store.index("valid")
    network, _ = floors.features(store, "statistics", seed=0)
    found = infer(network, store, index, packed.recipe.hardware)
    torch.testing.assert_close(found, BandStatistics()(store.unit(store.read(index))))


def test_half_precision_changes_no_floor(packed: Run, store: TileStore) -> None:
    hardware = packed.recipe.hardware.model_copy(update={"precision": "bf16"})
    for name in ("statistics", "patches"):
        network, _ = floors.features(store, name, seed=0)
        full, half = (infer(network, store, store.index("test"), one) for one in (packed.recipe.hardware, hardware))
        torch.testing.assert_close(full, half)
