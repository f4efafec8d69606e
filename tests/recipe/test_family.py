"""What a family states of itself where it overrides nothing."""

import pytest

from gcl_custom.recipe.family import GeneratorSection
from gcl_custom.recipe.views import (
    OF_INPAINTING,
    CentreSettings,
    InterpolationSettings,
    LatentNoiseSettings,
    SteeringSettings,
    StrategySection,
    ViewsSettings,
)


class Plain(GeneratorSection):
    """A family with a latent and no stage of its own."""

    name: str = "plain"


class Bare(Plain):
    has_latent = False


PLAIN = Plain()


def test_a_family_needs_no_stage_and_gives_the_tile_back_unless_it_says_otherwise() -> None:
    assert PLAIN.stages(None) == PLAIN.encoded_after == PLAIN.reconstructed_after == ()
    assert PLAIN.reconstructs
    assert not PLAIN.inverts
    assert PLAIN.published_as(ViewsSettings(), 256) is None


@pytest.mark.parametrize(
    ("family", "strategy", "refusal"),
    [
        (PLAIN, CentreSettings(name="centre"), "centre hides tokens, and the generator plain has none"),
        (PLAIN, LatentNoiseSettings(name="noise"), None),
        (PLAIN, InterpolationSettings(name="interpolation"), None),
        (Bare(), LatentNoiseSettings(name="noise"), "noise edits a latent, and the generator plain has none"),
    ],
)
def test_a_strategy_goes_with_a_family_that_has_what_it_changes(
    family: GeneratorSection, strategy: StrategySection, refusal: str | None
) -> None:
    found = family.refusal(strategy)
    assert found is None if refusal is None else refusal in str(found)


def test_only_in_painting_reads_its_keys() -> None:
    assert PLAIN.unread(None) == PLAIN.unread(SteeringSettings(name="steering")) == OF_INPAINTING
