"""What generators and strategies fit together, and that nothing can be set that would do nothing."""

from typing import Any

import pytest
from generator_sections import ARMS, HALTON, ICGAN, recipe
from pydantic import ValidationError


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
        ({"generator": ICGAN}, "icgan does not reconstruct a tile: leave reconstructed out"),
        ({"generator": {**ICGAN, "strength": 0.5}, "compare": ARMS}, "set inversion_steps above 0"),
        ({"generator": {"name": "diffusion", "strength": 0.05}}, "raise steps to 20 or more"),
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
