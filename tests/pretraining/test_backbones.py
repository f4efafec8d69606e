"""Backbones: widths, bands, sizes, stems and messages."""

import pytest
import timm
import torch

from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import backbones


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"],
)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_maps_tiles_of_any_bands_to_its_width(name: str, bands: int) -> None:
    network, width = backbones.build(name, bands)
    network.eval()
    with torch.no_grad():
        for size in (48, 64):
            assert network(torch.rand(2, bands, size, size)).shape == (2, width)


def test_tokens_of_a_transformer_are_padded_to_the_tile() -> None:
    network, width = backbones.build("eva02_tiny_patch14_224", 3)
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, width)


class Grey(TileStore):
    """What a backbone has to know of a store: tiles of little contrast."""

    def __init__(self) -> None:
        self.bands, self.size = 3, 64

    moments = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.1, 0.05, 0.2])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_network_of_patches_begins_as_if_tiles_were_standardised(name: str) -> None:
    mean, deviation = (moment[:, None, None] for moment in Grey.moments)
    torch.manual_seed(0)
    plain, width = backbones.build(name, 3)
    torch.manual_seed(0)
    network, same_width = backbones.untrained(name, Grey())
    noise = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, wanted = network.eval()(mean + noise * deviation), plain.eval()(noise)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert same_width == width


@pytest.mark.parametrize("name", ["resnet18", "xcit_nano_12_p16_224"])
def test_a_network_that_begins_with_batch_normalisation_is_left_alone(name: str) -> None:
    torch.manual_seed(0)
    plain, _ = backbones.build(name, 3)
    torch.manual_seed(0)
    network, _ = backbones.untrained(name, Grey())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))


def test_a_small_stem_doubles_the_extent_and_keeps_every_weight() -> None:
    standard, _ = backbones.build("resnet18", 3)
    small, _ = backbones.build("resnet18", 3, "small")
    tiles = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert standard.eval().forward_features(tiles).shape[-2:] == (2, 2)
        assert small.eval().forward_features(tiles).shape[-2:] == (4, 4)
    assert standard.state_dict().keys() == small.state_dict().keys()


def test_options_are_what_plain_timm_needs_to_build_the_same() -> None:
    for name in ("test_resnet", "test_vit"):
        network, _ = backbones.build(name, 4)
        plain = timm.create_model(name, num_classes=0, in_chans=4, **backbones.options(network)).eval()
        plain.load_state_dict(network.state_dict())
        tiles = torch.rand(2, 4, 40, 40)
        with torch.no_grad():
            torch.testing.assert_close(plain(tiles), network.eval()(tiles), rtol=1e-4, atol=1e-4)


def test_a_saved_state_gives_the_same_representations() -> None:
    network, _ = backbones.build("resnet18", 4, "small")
    again, _ = backbones.build("resnet18", 4, "small")
    again.load_state_dict(network.state_dict())
    tiles = torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(tiles), again.eval()(tiles))


def test_weights_lie_channels_last() -> None:
    network, _ = backbones.build("resnet18", 3)
    weight = network.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_an_unknown_name_brings_close_ones() -> None:
    with pytest.raises(UserError, match="resnet18"):
        backbones.build("resnt18", 3)


def test_a_small_stem_is_for_resnets() -> None:
    with pytest.raises(UserError, match="no ResNet"):
        backbones.build("convnext_atto", 3, "small")


def test_a_resnet_trains_as_timms_does() -> None:
    ours, _ = backbones.build("resnet18", 3)
    theirs = timm.create_model("resnet18", num_classes=0)
    theirs.load_state_dict(ours.state_dict())
    tiles = torch.rand(4, 3, 64, 64)
    torch.testing.assert_close(ours(tiles), theirs(tiles), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(tiles).dtype == torch.bfloat16
