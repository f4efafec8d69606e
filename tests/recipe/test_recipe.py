"""The grammar: every key is read somewhere, and what does not fit together is refused."""

import re
from pathlib import Path

import pytest
from generator_sections import ARMS, ICGAN
from pydantic import ValidationError

from gcl_custom.errors import RecipeError
from gcl_custom.recipe.file import _sections_in, check_values
from gcl_custom.recipe.generator import IcGanSettings, MaskGITSettings, TokenGeneratorSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.pretraining import PretrainSettings, SmallCropsSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import LatentNoiseSettings, ViewsSettings


def test_every_key_is_read_somewhere() -> None:
    """Outside of the grammar, that is: a setting does something."""
    package = Path(__file__).parents[2] / "gcl_custom"
    source = "".join(
        path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.parent != package / "recipe"
    )
    unread = [name for name in _keys(Recipe) if not re.search(rf"\.{name}\b", source)]
    assert unread == ["test"]  # the share that the other two of a split leave


def _keys(model: type) -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        sections = list(_sections_in(field.annotation))
        keys |= {name} | {key for section in sections for key in _keys(section)}
    return keys


def test_fsdp_is_for_a_maskgit_that_is_trained() -> None:
    fsdp = {"name": "r", "data": DataSettings(root="tiles"), "hardware": HardwareSettings(strategy="fsdp")}
    assert Recipe(**fsdp).hardware.strategy == "fsdp"
    taken = TokenGeneratorSettings(maskgit=MaskGITSettings(weights="maskgit.safetensors", epochs=0))
    others = (
        {"generator": IcGanSettings(name="icgan", weights="g.pth", encoder="e.pth")},
        {"generator": taken},
        {"views": ViewsSettings(strategy=LatentNoiseSettings(name="noise"))},
    )
    for other in others:
        with pytest.raises(ValidationError, match=r"fsdp shares out a MaskGIT that is trained.*trains none: take ddp"):
            Recipe(**fsdp, **other)


def test_generative_views_in_a_step_must_exist_and_fit_the_processes() -> None:
    settings = PretrainSettings(generative_views=2)
    with pytest.raises(ValidationError, match=r"views.per_tile is 1: raise it to 2"):
        Recipe(name="r", data=DataSettings(root="tiles"), pretrain=settings)
    enough = {"name": "r", "data": DataSettings(root="tiles"), "views": ViewsSettings(per_tile=2)}
    assert Recipe(**enough, pretrain=settings).pretrain.generative_views == 2
    with pytest.raises(ValidationError, match=r"gives 170 tiles a step, which 4 processes .* cannot share evenly"):
        Recipe(**enough, pretrain=settings, hardware=HardwareSettings(devices=4))
    raw = PretrainSettings(generative_views=2, source="raw")
    assert Recipe(name="r", data=DataSettings(root="tiles"), pretrain=raw).views.per_tile == 1


def test_small_crops_are_no_larger_than_large_views() -> None:
    data, small = DataSettings(root="tiles", size=64), SmallCropsSettings(count=2, size=72)
    with pytest.raises(ValidationError, match=r"small_crops.size 72 is more than the 64 px of a large view.* to 32"):
        Recipe(name="r", data=data, pretrain=PretrainSettings(small_crops=small))
    with pytest.raises(ValidationError, match=r"more than the 24 px of a large view.* to 16"):
        Recipe(name="r", data=data, pretrain=PretrainSettings(small_crops=small, crop_size=24))
    for fitting in (PretrainSettings(small_crops=small, crop_size=72), PretrainSettings()):
        assert Recipe(name="r", data=data, pretrain=fitting).pretrain == fitting


def test_targets_of_tokens_need_a_generator_of_tokens() -> None:
    values = {"name": "r", "data": {"root": "x", "size": 128}, "pretrain": {"targets": {"name": "tokens"}}}
    values["compare"] = ARMS
    check_values(Recipe, values, "here")
    with pytest.raises(RecipeError, match=r"targets\.name tokens: the generator icgan has no tokens"):
        check_values(Recipe, {**values, "generator": ICGAN}, "here")
