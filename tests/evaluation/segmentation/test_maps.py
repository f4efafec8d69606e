from pathlib import Path

import pytest
import torch
from masked_tiles import store_in
from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.evaluation.segmentation.maps import intermediates, of_decoder, of_probe
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.backbones import Enlarged, Normalised


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return store_in(tmp_path, side=64, count=6)


@pytest.mark.parametrize(
    ("name", "stem", "sides", "finest"),
    [
        ("resnet10t", "standard", [8, 2], 32),
        ("resnet10t", "small", [16, 4], 32),
        ("convnext_atto", "standard", [8, 2], 16),
    ],
)
def test_a_probe_sees_the_last_map_and_one_four_times_as_large(
    store: TileStore, name: str, stem: str, sides: list[int], finest: int
) -> None:
    network, _ = backbones.build(name, 3, stem)
    tiles = torch.rand(2, 3, 64, 64)
    seen, decoded = of_probe(network, store), of_decoder(network, store)
    found = seen(tiles)
    assert [one.shape[-1] for one in found] == sides
    assert [one.shape[1] for one in found] == seen.channels
    found = decoded(tiles)
    assert [one.shape[1] for one in found] == decoded.channels
    assert (found[0].shape[-1], found[-1].shape[-1]) == (finest, sides[-1])
    assert len({one.shape[-1] for one in found}) == len(found)


def test_maps_of_tokens_are_of_the_middle_and_the_last_block(store: TileStore) -> None:
    network, _ = backbones.build("vit_tiny_patch16_224", 3, size=64)
    assert of_probe(network, store).layers == [5, 11]
    assert of_decoder(network, store).layers == [2, 5, 8, 11]
    assert [tuple(one.shape) for one in of_probe(network, store)(torch.rand(2, 3, 64, 64))] == [(2, 192, 4, 4)] * 2


def test_the_mean_of_a_resnets_last_map_is_its_representation(store: TileStore) -> None:
    network, _ = backbones.build("resnet10t", 3, "small")
    tiles = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        last = of_probe(network.eval(), store)(tiles)[-1]
        torch.testing.assert_close(last.mean((2, 3)), network(tiles))


def test_normalised_and_enlarged_backbones_see_what_they_pool(store: TileStore) -> None:
    inner, _ = backbones.build("resnet10t", 3)
    network = Enlarged(Normalised(inner, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]), 128).eval()
    tiles = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        last = of_probe(network, store)(tiles)[-1]
        assert last.shape[-1] == 4
        torch.testing.assert_close(last.mean((2, 3)), network(tiles))


def test_looking_for_maps_changes_nothing_of_the_network(store: TileStore) -> None:
    network, _ = backbones.build("resnet10t", 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    of_decoder(network, store)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_without_maps_is_refused(store: TileStore) -> None:
    with pytest.raises(UserError, match=r"timm gives none of this one.*pretrain\.backbone"):
        of_probe(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)), store)
    network, _ = backbones.build("resnet10t", 3)
    assert len(intermediates(network, torch.rand(1, 3, 64, 64))) == 5
