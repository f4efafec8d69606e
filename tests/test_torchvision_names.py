"""Weights of timm under torchvision's names: the same equations, one architecture of each family."""

import pytest
import timm
import torch

from gcl_custom.errors import UserError
from gcl_custom.torchvision_names import TWINS, build, renamed, twin_of


@pytest.mark.parametrize(
    ("name", "bands"), [("resnet50", 5), ("densenet121", 1), ("convnext_tiny", 5), ("vit_base_patch32_224", 5)]
)
def test_renamed_weights_give_the_same_representations(name: str, bands: int) -> None:
    torch.manual_seed(0)
    options = {"dynamic_img_size": True} if name.startswith("vit") else {}
    ours = timm.create_model(name, num_classes=0, in_chans=bands, **options).eval()
    with torch.no_grad():
        for value in ours.state_dict().values():  # nothing as it was initialised, so that nothing can be lost unseen
            if value.is_floating_point():
                value.add_(torch.empty_like(value).uniform_(0, 0.02))
    twin, size = twin_of(name), 64
    theirs, _ = build(twin, bands, size, small_stem=False)
    theirs.load_state_dict(renamed(ours.state_dict(), twin, size))
    tiles = torch.rand(2, bands, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected = ours.double()(tiles)
        torch.testing.assert_close(theirs.double()(tiles), expected, rtol=1e-9, atol=1e-9)
    assert (expected[0] - expected[1]).abs().max() > 1e-6, "the network does not look at its tiles"


@pytest.mark.parametrize("name", ["resnet152", "resnext101_64x4d", "wide_resnet101_2", "densenet201", "convnext_large",
                                  "vit_large_patch16_224"])  # fmt: skip
def test_names_and_shapes_fit_the_deepest_of_a_family(name: str) -> None:
    """Without any memory for the weights."""
    twin = twin_of(name)
    with torch.device("meta"):
        ours = timm.create_model(name, num_classes=0)
        theirs, _ = build(twin, 3, 224, small_stem=False)
    found = renamed(ours.state_dict(), twin, 224)
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


def test_the_lines_build_the_very_network() -> None:
    network, lines = build(TWINS["resnet18"], 4, 32, small_stem=True)
    names: dict[str, object] = {}
    exec("\n".join(["import torch, torchvision", *lines]), names)
    assert repr(names["backbone"]) == repr(network)


def test_what_torchvision_cannot_build_is_said() -> None:
    with pytest.raises(UserError, match=r"no version of resnet10t.*vit_base_patch16_224"):
        twin_of("resnet10t")
    with pytest.raises(UserError, match="vit_b_16 does not take tiles of 40 px"):
        build(TWINS["vit_base_patch16_224"], 3, 40, small_stem=False)
