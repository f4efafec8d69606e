"""What does not fit together in the section of pretraining is refused."""

import pytest

from gcl_custom.recipe.pretraining import PretrainSettings


@pytest.mark.parametrize(("generative_views", "tiles"), [(1, 256), (2, 170), (3, 128)])
def test_a_step_has_about_as_many_views_whatever_the_number_of_pairs(generative_views: int, tiles: int) -> None:
    settings = PretrainSettings(batch=256, generative_views=generative_views)
    assert settings.tiles_per_step == tiles
    assert 0 <= 512 - tiles * (1 + generative_views) < 1 + generative_views
    assert PretrainSettings(batch=2, generative_views=generative_views).tiles_per_step == 2, "a batch norm needs two"
