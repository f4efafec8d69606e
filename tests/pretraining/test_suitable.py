"""Which backbones take a recipe's tiles: built for their size where timm can, else refused before any stage."""

from pathlib import Path

import pytest
import torch
from tiny_recipe import TINY

from gcl_custom.errors import UserError
from gcl_custom.pretraining import backbones
from gcl_custom.pretraining.suitable import require_sizes, require_suitable
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run, kept_run

ANY_SIZE = (
    *("resnet10t", "test_resnet", "test_efficientnet", "test_convnext", "test_convnext3", "test_byobnet"),
    *("test_nfnet", "test_mambaout", "lcnet_035", "regnetx_002", "mobilevit_xxs", "ghostnet_050", "dla46x_c"),
    *("edgenext_xx_small", "efficientvit_b0", "fasternet_t0", "repghostnet_050", "starnet_s050", "rexnet_100"),
    *("ese_vovnet19b_slim_dw", "cspnext_tiny", "inception_next_atto", "swiftformer_xs", "iformer_t"),
    *("test_vit", "vit_tiny_patch16_224", "xcit_nano_12_p8_224", "tiny_vit_5m_224", "pvt_v2_b0"),
)
FIXED = ("mixer_s32_224", "gmlp_ti16_224", "cait_xxs24_224", "levit_128s", "convit_tiny", "test_coatnet", "coat_tiny",
         "deit_tiny_distilled_patch16_224", "efficientformerv2_s0", "test_vit_relpos")  # fmt: skip
"""Networks that timm builds for pictures of one size."""


def recipe(backbone: str, size: int = 64, **pretrain: object) -> Recipe:
    settings = TINY.pretrain.model_copy(update={"backbone": backbone, "stem": "standard", **pretrain})
    return TINY.model_copy(update={"data": TINY.data.model_copy(update={"size": size}), "pretrain": settings})


@pytest.mark.parametrize("name", [*ANY_SIZE, *FIXED])
def test_forty_families_take_tiles_of_64_px(name: str) -> None:
    require_sizes(recipe(name))


def test_a_network_of_fixed_size_is_built_for_the_tiles_and_again_for_its_weights() -> None:
    network, width = backbones.build("mixer_s32_224", 4, size=64)
    assert backbones.options(network) == {"img_size": 64}
    again, _ = backbones.build("mixer_s32_224", 4, size=64)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        found = again.eval()(torch.rand(2, 4, 64, 64))
    assert found.shape == (2, width)
    assert backbones.options(backbones.build("mixer_s32_224", 3, size=224)[0]) == {}


def test_a_network_that_takes_one_size_is_refused_where_views_have_another() -> None:
    with pytest.raises(UserError, match=r"mixer_s32_224 does not take pictures of 32 px, the pretrain\.crop_size"):
        require_sizes(recipe("mixer_s32_224", crop_size=32))


@pytest.mark.parametrize(("name", "size"), [("halonet_h1", 40), ("csatv2", 32)])
def test_what_no_size_of_timm_helps_is_refused_with_its_name(name: str, size: int) -> None:
    """Halo attention wants maps of whole blocks, and nothing is left of 32 px before the last kernel."""
    with pytest.raises(UserError, match=rf"pretrain\.backbone: .*{name}.*resnet18"):
        require_sizes(recipe(name, size))


def test_an_unknown_network_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="timm has no network 'resnt18'"):
        require_sizes(recipe("resnt18"))


def test_a_run_whose_new_backbone_is_refused_keeps_its_recipe(tmp_path: Path) -> None:
    """Otherwise what it has finished would be of another recipe, and be refused, too."""
    run = Run(tmp_path / "run", recipe("resnet10t"))
    run.path.mkdir()
    with run.saved():
        pass
    other = Run(run.path, recipe("halonet_h1"))
    with pytest.raises(UserError, match="halonet_h1"), other.saved():
        require_suitable(other)
    assert kept_run(run.path).recipe == run.recipe


START = {"name": "file", "weights": "w.pth", "mean": [0.5], "std": [0.5]}


def test_more_layers_than_a_network_has_are_refused_beforehand() -> None:
    with pytest.raises(UserError, match="trained_layers is 999, but test_resnet has"):
        require_sizes(recipe("test_resnet", start=START, trained_layers=999))


def test_a_network_without_layers_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("timm.models.resnet.ResNet.group_matcher")
    with pytest.raises(UserError, match="timm does not divide test_resnet"):
        require_sizes(recipe("test_resnet", start=START, layer_decay=0.5))
