"""The grammar: every key is read somewhere, and what does not fit together is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gcl_custom.recipe import Dino, Handcrafted, Pretrain, Recipe, SmallCrops, VICReg
from gcl_custom.recipe_file import _sections_in


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
