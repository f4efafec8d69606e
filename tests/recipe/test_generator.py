"""What generators and strategies fit together, and that nothing can be set that would do nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from gcl_custom.recipe.recipe import Recipe

ICGAN = {"name": "icgan", "weights": "g.pth", "encoder": "swav.pth"}


HALTON = {
    "tokenizer": {"name": "llamagen", "weights": "vq.pt"},
    "maskgit": {"name": "halton", "weights": "halton.pth"},
}


ARMS = {"arms": ["gcl", "handcrafted"]}


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "data": {"root": "tiles", "size": 256}, **sections})


def test_the_generator_is_the_own_one_unless_another_is_named() -> None:
    assert recipe().generator.name == "tokens"
    assert recipe().tokens.tokenizer.name == "vqgan"
    assert recipe().inpaints
    assert recipe(generator={"tokenizer": {"codes": 512}}).tokens.tokenizer.codes == 512


def test_public_networks_speak_the_same_codes() -> None:
    chosen = recipe(generator=HALTON)
    assert chosen.tokens.tokenizer.codes == 16384
    assert chosen.inpaints
    with pytest.raises(ValidationError, match="halton speaks the codes of the tokenizer llamagen, not of vqgan"):
        recipe(generator={"maskgit": HALTON["maskgit"]})
    own = recipe(generator={"tokenizer": HALTON["tokenizer"]})
    assert own.tokens.maskgit.name == "maskgit"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"generator": {"tokenizer": {"epochs": 0}}}, "epochs 0 takes weights as they are, but no weights are given"),
        ({"generator": {"maskgit": {"epochs": 0}}}, "epochs 0 takes weights as they are, but no weights are given"),
        ({"generator": ICGAN, "compare": ARMS, "views": {"strategy": {"name": "centre"}}}, "centre hides tokens"),
        ({"generator": ICGAN}, "icgan does not reconstruct a tile: leave reconstructed out"),
        ({"generator": {**ICGAN, "strength": 0.5}, "compare": ARMS}, "set inversion_steps above 0"),
        (
            {"generator": ICGAN, "compare": ARMS, "views": {"strategy": {"name": "interpolation"}}},
            "from one tile's noise to another's: set inversion_steps above 0",
        ),
        ({"generator": {"name": "diffusion", "strength": 0.05}}, "raise steps to 20 or more"),
        ({"generator": {"name": "unclip"}, "compare": ARMS, "views": {"strategy": {"name": "noise"}}}, "has none"),
        ({"generator": ICGAN, "compare": ARMS, "views": {"order": "halton"}}, "views.order does nothing with this"),
        ({"views": {"strategy": {"name": "centre"}, "mask_probability": 0.5}}, "views.mask_probability does nothing"),
        ({"views": {"strategy": {"name": "noise"}, "decoding_steps": 4}}, "views.decoding_steps does nothing"),
        ({"views": {"strategy": {"name": "outpainting", "share": 0.05}}}, "which may cover no token wholly"),
        ({"generator": HALTON, "views": {"refresh": 1}}, "views.refresh does nothing"),
        ({"generator": HALTON, "data": {"root": "tiles", "size": 200}}, "must be a multiple of .* 16"),
    ],
)
def test_what_does_not_fit_together_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**sections)


def test_only_an_inverted_icgan_reconstructs() -> None:
    assert not recipe(generator=ICGAN, compare=ARMS).generator.reconstructs
    assert recipe(generator={**ICGAN, "inversion_steps": 10}).generator.reconstructs
    assert recipe(generator={"name": "diffusion"}).generator.reconstructs


def test_latent_edits_are_open_to_every_continuous_latent() -> None:
    for generator in ({}, {**ICGAN, "inversion_steps": 5}, {"name": "diffusion"}):
        made = recipe(generator=generator, views={"strategy": {"name": "interpolation", "strength": 0.2}})
        assert not made.inpaints
        assert made.augmentation == f"{made.generator.name}, interpolation"
