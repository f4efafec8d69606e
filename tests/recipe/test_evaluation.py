import pytest
from pydantic import ValidationError

from gcl_custom.recipe.evaluation import CompareSettings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"arms": ["handcrafted", "supervised"]}, "arms must contain gcl: the others are compared with it"),
        ({"arms": ["gcl", "paired", "gcl"]}, "arms and seeds must not repeat"),
        ({"seeds": [0, 1, 0]}, "arms and seeds must not repeat"),
        ({"fractions": [0.1, 0.1]}, "fractions and shots must not repeat"),
        ({"shots": [5, 5]}, "fractions and shots must not repeat"),
    ],
)
def test_a_comparison_has_gcl_and_nothing_twice(settings: dict[str, list], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        CompareSettings(**settings)


def test_a_training_with_all_labels_has_at_least_a_thousand_steps_unless_the_recipe_says_how_many_epochs() -> None:
    assert CompareSettings().epochs_on_all(pretraining=4, steps_per_epoch=21) == 48  # 1,008 steps
    assert CompareSettings().epochs_on_all(pretraining=100, steps_per_epoch=21) == 100
    assert CompareSettings(supervised_epochs=1).epochs_on_all(pretraining=4, steps_per_epoch=7) == 1


def test_a_comparison_may_be_of_probes_alone_and_of_one_seed() -> None:
    assert CompareSettings(arms=["gcl"], seeds=[7], fractions=[]).fractions == []
