"""What strategies a generator takes, and that no key of the views can be set that would do nothing."""

from typing import Any

import pytest
from generator_sections import ARMS, HALTON, ICGAN, recipe
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"generator": ICGAN, "compare": ARMS, "views": {"strategy": {"name": "centre"}}}, "centre hides tokens"),
        (
            {"generator": ICGAN, "compare": ARMS, "views": {"strategy": {"name": "interpolation"}}},
            "from one tile's noise to another's: set inversion_steps above 0",
        ),
        ({"generator": {"name": "unclip"}, "compare": ARMS, "views": {"strategy": {"name": "noise"}}}, "has none"),
        ({"generator": ICGAN, "compare": ARMS, "views": {"order": "halton"}}, "views.order does nothing with this"),
        ({"views": {"strategy": {"name": "centre"}, "mask_probability": 0.5}}, "views.mask_probability does nothing"),
        ({"views": {"strategy": {"name": "noise"}, "decoding_steps": 4}}, "views.decoding_steps does nothing"),
        ({"views": {"strategy": {"name": "noise", "strength": 1.5}}}, "less than or equal to 1"),
        ({"views": {"strategy": {"name": "outpainting", "share": 0.05}}}, "which may cover no token wholly"),
        ({"generator": HALTON, "views": {"refresh": 1}}, "views.refresh does nothing"),
        ({"views": {"fill": "mean", "pixels": "decoded"}}, "keeps the tile's pixels around the hidden squares"),
        ({"views": {"fill": "mean", "strategy": {"name": "outpainting"}}}, "is a control of in-painting"),
    ],
)
def test_a_strategy_that_does_not_fit_and_a_key_that_does_nothing_are_refused(
    sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**sections)


def test_latent_edits_are_open_to_every_continuous_latent() -> None:
    for generator in ({}, {**ICGAN, "inversion_steps": 5}, {"name": "diffusion"}):
        made = recipe(generator=generator, views={"strategy": {"name": "interpolation", "strength": 0.2}})
        assert not made.inpaints
        assert made.augmentation == f"{made.generator.name}, interpolation"


@pytest.mark.parametrize(("name", "steps"), [("noise", 0), ("interpolation", 0), ("steering", 500), ("navigator", 500)])
def test_an_edit_that_is_learned_has_a_stage(name: str, steps: int) -> None:
    made = recipe(views={"strategy": {"name": name}})
    assert made.views.strategy is not None
    assert made.views.strategy.training_steps == steps
    assert ("edit" in made.generator_stages) == (steps > 0)
