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


def test_a_comparison_may_be_of_probes_alone_and_of_one_seed() -> None:
    assert CompareSettings(arms=["gcl"], seeds=[7], fractions=[]).fractions == []
