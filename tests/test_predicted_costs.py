"""Laws of predicted costs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.scaling import STUDIES, Counting, Work, operations, seconds
from gcl_custom.check.step_costs import Cost, Costs, TokenCosts
from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.recipe import Recipe

COST = Cost(1e9, 0, 0)
COSTS = Costs(TokenCosts(COST, COST, COST, COST, COST), COST, COST, COST, COST)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("recipes/wildfire.yaml")


def cost(recipe: Recipe, tiles: int, devices: int = 1, classes: int = 0) -> float:
    return seconds(operations(recipe, COSTS, tiles, classes), devices)


@pytest.mark.parametrize("tiles", [48_000, 100_000, 1_200_000])
def test_twice_the_tiles_take_twice_the_time(recipe: Recipe, tiles: int) -> None:
    assert cost(recipe, 2 * tiles) == pytest.approx(2 * cost(recipe, tiles), rel=0.01)


def test_eight_devices_take_an_eighth_of_the_time() -> None:
    works = [Work("pretrain", 8e15), Work("encoding", 1e15)]
    assert seconds(works, 8) == pytest.approx(seconds(works, 1) / 8)
    assert seconds(works, 1) == pytest.approx(9e15 / (312e12 * 0.3))


def test_encoding_is_apart_from_the_training_on_tokens(recipe: Recipe) -> None:
    works = operations(recipe, COSTS, 48_000, 2)
    encoded = 48_000 * 8  # each in all the ways that a tile can be turned and mirrored
    (encoding,) = (part.operations for part in works if part.name == "encoding")
    assert encoding == pytest.approx(encoded / recipe.views.batch * COST.seconds)


def test_a_dearer_batch_adds_its_number_of_batches(recipe: Recipe) -> None:
    dearer = Costs(COSTS.tokens, Cost(2e9, 0, 0), COST, COST, COST)
    more = seconds(operations(recipe, dearer, 48_000, 0), 1) - cost(recipe, 48_000)
    steps = recipe.pretrain.epochs * (48_000 // recipe.pretrain.tiles_per_step)
    assert more * 312e12 * 0.3 == pytest.approx(steps * 1e9)


def test_operations_of_a_linear_layer_are_those_of_its_formula(recipe: Recipe) -> None:
    layer, tiles = nn.Linear(30, 50), torch.rand(64, 30)
    step: Callable[[int], Any] = lambda count: layer(tiles[:count])  # noqa: E731
    fp32 = recipe.model_copy(update={"hardware": HardwareSettings(precision="fp32", accelerator="cpu")})
    found = Counting(fp32, 3, True)
    assert found.cost(step, 64, [layer]).seconds == 2 * 64 * 30 * 50


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_settings_are_keys_of_the_recipe(study: Any) -> None:
    assert load_recipe(study.recipe, study.settings).name
