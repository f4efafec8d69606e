"""The grammar: every key is read somewhere, and what does not fit together is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gcl_custom.recipe import Data, Dino, Handcrafted, Hardware, Pretrain, Recipe, SmallCrops, VICReg
from gcl_custom.recipe_file import _sections_in
from gcl_custom.recipe_generator import Views


def test_small_crops_are_for_the_methods_that_compare_all_crops() -> None:
    assert Pretrain(method=Dino(name="dino"), small_crops=SmallCrops(count=6)).small_crops.count == 6
    with pytest.raises(ValidationError, match="small_crops are for dino and swav, not for vicreg"):
        Pretrain(method=VICReg(), small_crops=SmallCrops(count=6))


def test_every_key_has_a_meaning_that_a_reader_finds() -> None:
    """Sections hold either a described key or one whose name and bounds say it all, and no key is left unread."""
    source = "".join(
        path.read_text() for path in Path(__file__).parents[1].glob("gcl_custom/**/*.py") if path.stem != "recipe"
    )
    unread = [name for name in _keys(Recipe) if f".{name}" not in source]
    assert unread == ["test"]  # the share that the other two of a split leave


def _keys(model: type) -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        sections = list(_sections_in(field.annotation))
        keys |= {name} | {key for section in sections for key in _keys(section)}
    return keys


@pytest.mark.parametrize("step", ["rotation", "perspective", "sobel", "cutout"])
def test_a_pairing_names_no_step_that_would_do_nothing(step: str) -> None:
    with pytest.raises(ValidationError, match=rf"pairing names {step}, but handcrafted.{step}, its probability, is 0"):
        Pretrain(pairing=["crop", step])
    assert Pretrain(pairing=["crop", step], handcrafted=Handcrafted(**{step: 0.5})).pairing == ["crop", step]


@pytest.mark.parametrize(("generative_views", "tiles"), [(1, 256), (2, 170), (3, 128)])
def test_a_step_has_about_as_many_views_whatever_the_number_of_pairs(generative_views: int, tiles: int) -> None:
    settings = Pretrain(batch=256, generative_views=generative_views)
    assert settings.tiles_per_step == tiles
    assert 0 <= 512 - tiles * (1 + generative_views) < 1 + generative_views
    assert Pretrain(batch=2, generative_views=generative_views).tiles_per_step == 2, "a batch norm needs two"


def test_generative_views_in_a_step_must_exist_and_fit_the_processes() -> None:
    settings = Pretrain(generative_views=2)
    with pytest.raises(ValidationError, match=r"views.per_tile is 1: raise it to 2"):
        Recipe(name="r", data=Data(root="tiles"), pretrain=settings)
    enough = {"name": "r", "data": Data(root="tiles"), "views": Views(per_tile=2)}
    assert Recipe(**enough, pretrain=settings).pretrain.generative_views == 2
    with pytest.raises(ValidationError, match=r"gives 170 tiles a step, which hardware.devices 4 cannot share evenly"):
        Recipe(**enough, pretrain=settings, hardware=Hardware(devices=4))
    raw = Pretrain(generative_views=2, source="raw")
    assert Recipe(name="r", data=Data(root="tiles"), pretrain=raw).views.per_tile == 1
