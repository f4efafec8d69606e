"""What does not fit together in the section of pretraining is refused."""

import pytest
from pydantic import ValidationError

from gcl_custom.recipe.methods import DinoSettings, VICRegSettings
from gcl_custom.recipe.pretraining import PretrainSettings, SmallCropsSettings


def test_small_crops_are_for_the_methods_that_compare_all_crops() -> None:
    assert (
        PretrainSettings(method=DinoSettings(name="dino"), small_crops=SmallCropsSettings(count=6)).small_crops.count
        == 6
    )
    with pytest.raises(ValidationError, match="small_crops are for dino and swav, not for vicreg"):
        PretrainSettings(method=VICRegSettings(), small_crops=SmallCropsSettings(count=6))


@pytest.mark.parametrize(("generative_views", "tiles"), [(1, 256), (2, 170), (3, 128)])
def test_a_step_has_about_as_many_views_whatever_the_number_of_pairs(generative_views: int, tiles: int) -> None:
    settings = PretrainSettings(batch=256, generative_views=generative_views)
    assert settings.tiles_per_step == tiles
    assert 0 <= 512 - tiles * (1 + generative_views) < 1 + generative_views
    assert PretrainSettings(batch=2, generative_views=generative_views).tiles_per_step == 2, "a batch norm needs two"
