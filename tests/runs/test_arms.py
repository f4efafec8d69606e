from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms

RECIPE = Recipe(name="r", data=DataSettings(root="tiles"))


def test_every_arm_and_seed_is_pretrained_once() -> None:
    pairs = arms.pretrainings(RECIPE)
    assert len(pairs) == len(set(pairs)) == 4 * 3
    assert pairs[0] == ("gcl", 0)
