from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_recipe import TINY

from gcl_custom.check.estimates import CAPTION, MEASURED, UNKNOWN, StageCost, estimate
from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.step_costs import Cost, Costs, TokenCosts
from gcl_custom.imagery.decoding import Form
from gcl_custom.measures.label_kinds import SINGLE_LABEL
from gcl_custom.pretraining.make_targets import BLOCK
from gcl_custom.recipe.file import check_values, load_recipe
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.pretraining import TokenTargetsSettings
from gcl_custom.recipe.recipe import Recipe

GB = 10**9

ONE = Cost(1.0, 10, 7)
COSTS = Costs(TokenCosts(ONE, ONE, ONE, ONE, ONE), ONE, ONE, ONE, ONE)
BARE = Costs(None, ONE, ONE, ONE, ONE)
"""Where the networks of the generator cannot be measured."""


def recipe_with(data: DataSettings, **sections: object) -> Recipe:
    return TINY.model_copy(update={"data": data, **sections})


def of(generator: dict[str, Any], **sections: Any) -> Recipe:
    values = {"name": "r", "data": {"root": "x", "size": 256}, "compare": {"arms": ["gcl"]}, "generator": generator}
    return check_values(Recipe, values | sections, "test")


def imagenet(train: int = 1_281_167) -> FoundTiles:
    split = torch.cat([torch.zeros(train, dtype=torch.int64), torch.tensor([1, 2])])
    return FoundTiles(Form(3, "uint8"), True, [], torch.full((train + 2,), -1), SINGLE_LABEL, split)


def rows_of(recipe: Recipe, costs: Costs, weights: dict[str, int] | None = None) -> dict[str, StageCost]:
    return {row.name: row for row in estimate(recipe, imagenet(), costs, weights or {})}


def test_steps_time_and_disk_have_known_answers() -> None:
    """100 train tiles in batches of 4; every batch takes 1 s, keeps 10 bytes and has 7 parameters."""
    split = torch.tensor([0] * 100 + [1] * 20 + [2] * 20)
    tiles = FoundTiles(Form(3, "uint16"), True, ["a", "b"], torch.arange(140) % 2, SINGLE_LABEL, split)
    one = Cost(1.0, 10, 7)
    generator = TINY.generator.model_copy(
        update={
            "tokenizer": TINY.tokens.tokenizer.model_copy(update={"epochs": 2, "adversary_start": 0.5}),
            "maskgit": TINY.tokens.maskgit.model_copy(update={"epochs": 3}),
        }
    )
    compare = TINY.compare.model_copy(
        update={
            "seeds": [0, 1], "arms": ["gcl", "supervised"], "fractions": [0.02, 0.5, 1.0], "finetune_steps": 10,
            "supervised_epochs": 4,
        }
    )  # fmt: skip
    recipe = recipe_with(
        DataSettings(root="none", size=16, symmetry="flip"),
        generator=generator,
        compare=compare,
        pretrain=TINY.pretrain.model_copy(update={"epochs": 4}),
    )
    slow = Cost(3.0, 20, 9)
    costs = Costs(TokenCosts(one, slow, one, one, one), one, one, one, Cost(5.0, 10, 0))
    rows = {row.name: row for row in estimate(recipe, tiles, costs, {})}
    assert list(rows) == ["tiles", "tokenizer", "maskgit", "views", "pretrain", "other arms and seeds", "compare"]
    assert rows["tiles"].disk == 140 * 3 * 16 * 16 * 2
    assert rows["tokenizer"].seconds == 25 * 1 + 25 * 3  # 2 epochs of 25 steps, the second with the adversary
    assert rows["tokenizer"].memory == 20
    assert rows["maskgit"].seconds == 3 * 25 + 120 * 2 / 4  # and tokens of 120 tiles in two ways
    assert rows["maskgit"].disk == 16 * 7 + 240 * 16 * 2
    assert rows["maskgit"].what == "at most 75 steps of 4", "its held-out loss may end it earlier"
    assert (rows["views"].seconds, rows["views"].disk) == (25, 100 * 3 * 16 * 16 * 2)
    assert rows["pretrain"].seconds == rows["other arms and seeds"].seconds == 4 * 25
    # Three trainings each (two seeds, a second learning rate): 10 half batches and 10 whole ones for both arms,
    # 4 epochs of 25 steps with all labels, fine-tuned and supervised; two pretrained and two untrained backbones embed
    # 140 tiles, and the floors take five times as long for each batch.
    assert rows["compare"].seconds == 2 * 3 * (10 * 0.5 + 10) + 2 * 3 * 100 + 4 * 140 / 4 + 5 * 140 / 4


def test_a_public_start_is_embedded_once_more_and_trained_from_nothing_too() -> None:
    """Arms gcl, supervised and, with a start, scratch: 10 steps each, and 100 with all labels for the last two."""
    split = torch.tensor([0] * 100 + [1] * 20 + [2] * 20)
    tiles = FoundTiles(Form(3, "uint8"), True, ["a", "b"], torch.arange(140) % 2, SINGLE_LABEL, split)
    compare = TINY.compare.model_copy(
        update={
            "seeds": [0], "arms": ["gcl", "supervised", "scratch"], "fractions": [0.5], "finetune_steps": 10,
            "learning_rates": [1e-3], "supervised_epochs": 4,
        }
    )  # fmt: skip
    seconds = []
    for begins in ({"name": "none"}, {"name": "package"}):
        values = {
            "name": "r", "data": {"root": "x", "size": 16}, "compare": compare.model_dump(),
            "pretrain": {"backbone": "tf_efficientnet_lite0", "start": begins, "epochs": 4, "batch": 4},
        }  # fmt: skip
        rows = {row.name: row for row in estimate(check_values(Recipe, values, "test"), tiles, COSTS, {})}
        seconds.append(rows["compare"].seconds)
    assert seconds == [2 * 10 + 100 + (2 + 1) * 140 / 4, 3 * 10 + 2 * 100 + (3 + 1) * 140 / 4]


def test_without_labels_the_comparison_is_left_out() -> None:
    tiles = FoundTiles(Form(3, "uint8"), True, [], torch.full((30,), -1), SINGLE_LABEL, torch.arange(30) % 3)
    rows = [row.name for row in estimate(TINY, tiles, COSTS, {})]
    assert rows == ["tiles", "tokenizer", "maskgit", "views", "reconstructions", "pretrain"]


def test_a_comparison_of_probes_alone_names_no_steps() -> None:
    tiles = FoundTiles(Form(3, "uint8"), True, ["a", "b"], torch.arange(30) % 2, SINGLE_LABEL, torch.arange(30) % 3)
    probes = TINY.model_copy(update={"compare": TINY.compare.model_copy(update={"arms": ["gcl"], "fractions": []})})
    for recipe, begins in ((TINY, "at most "), (probes, "")):
        (row,) = [row for row in estimate(recipe, tiles, COSTS, {}) if row.name == "compare"]
        assert row.what.startswith(begins)
        assert ("step" in row.what) == bool(begins)
        assert row.what.endswith("tiles embedded")


def test_views_of_imagenet_take_252_gb_and_the_published_time() -> None:
    """1,281,167 views of 256 x 256 x 3 bytes, each 98.9 ms as published: 35.2 hours."""
    recipe = load_recipe("imagenet-inpainting", ["compare.arms=[gcl, reconstructed]"])
    weights = {"generator.tokenizer.weights": GB // 2, "generator.maskgit.weights": 2 * GB}
    rows = rows_of(recipe, BARE, weights)
    assert list(rows)[:5] == ["tiles", "tokenizer", "maskgit", "views", "reconstructions"]
    assert rows["views"].disk == 1_281_167 * 196_608 == 251_887_681_536
    assert rows["views"].seconds == pytest.approx(1_281_167 * 0.0989)
    assert "98.9 ms" in rows["views"].source
    assert "RTX 3090" in rows["views"].source
    assert rows["views"].memory == 2.5 * GB
    assert (rows["tokenizer"].seconds, rows["tokenizer"].disk) == (0, GB // 2)
    # Kept once as it is, and 16 x 16 tokens of 2 bytes of each tile, upright alone.
    assert rows["maskgit"].disk == 2 * GB + (1_281_167 + 1) * 256 * 2
    assert (rows["maskgit"].seconds, rows["maskgit"].source) == (None, UNKNOWN)
    assert rows["reconstructions"].seconds is None
    assert rows["pretrain"].source == MEASURED


def test_networks_that_are_taken_as_they_are_train_for_no_time() -> None:
    recipe = load_recipe("imagenet-inpainting")
    taken = replace(COSTS, tokens=TokenCosts(None, None, None, ONE, replace(ONE, seconds=3.0)))
    rows = rows_of(recipe, taken)
    assert rows["tokenizer"].seconds == 0
    assert rows["maskgit"].seconds == pytest.approx(1_281_168 / 64)
    assert rows["views"].seconds == pytest.approx(3 * 1_281_167 / 64)
    assert {row.source for row in rows.values()} == {MEASURED}


def test_diffusion_captions_training_and_validation_tiles_and_has_no_published_time() -> None:
    rows = rows_of(of({"name": "diffusion"}), BARE, {"generator.model": 7, "generator.captions": 1})
    assert list(rows) == ["tiles", "captions", "views", "pretrain"]
    assert (rows["captions"].what, rows["captions"].disk) == ("1,281,168 tiles", CAPTION * 1_281_168)
    assert (rows["views"].seconds, rows["views"].source, rows["views"].memory) == (None, UNKNOWN, 7)
    assert "captions" not in rows_of(of({"name": "diffusion", "captions": None}), BARE)


def test_a_learnt_edit_has_a_stage_and_fresh_noise_has_a_published_time() -> None:
    gan = {"name": "icgan", "weights": "g", "encoder": "e"}
    assert rows_of(of(gan), BARE)["views"].seconds == pytest.approx(1_281_167 * 0.0198)
    slow = of(gan | {"inversion_steps": 5}, views={"strategy": {"name": "steering", "steps": 9}})
    rows = rows_of(slow, BARE)
    assert list(rows)[:3] == ["tiles", "latents", "edit"]
    assert rows["edit"].what == "9 steps"
    assert rows["latents"].what == "1,281,167 tiles, 5 steps each"
    assert rows["latents"].disk == 1_281_167 * 4 * (2048 + 128)
    assert rows["views"].seconds is None


def test_handcrafted_views_alone_need_no_generator() -> None:
    assert list(rows_of(load_recipe("imagenet-handcrafted"), BARE)) == ["tiles", "pretrain"]


def test_an_edit_of_tokens_latents_trains_no_transformer() -> None:
    recipe = of({"name": "tokens"}, views={"strategy": {"name": "noise"}})
    rows = rows_of(recipe, replace(COSTS, tokens=TokenCosts(ONE, ONE, None, ONE, None)))
    assert list(rows) == ["tiles", "tokenizer", "tokens", "views", "pretrain"]
    assert rows["views"].seconds is None


def test_targets_of_tokens_cost_the_tokenizer_and_no_maskgit() -> None:
    pretrain = TINY.pretrain.model_copy(update={"targets": TokenTargetsSettings(name="tokens"), "source": "raw"})
    compare = TINY.compare.model_copy(update={"arms": ["gcl"], "seeds": [0]})
    recipe = TINY.model_copy(update={"pretrain": pretrain, "compare": compare})
    rows = rows_of(recipe, replace(COSTS, targets=(ONE, 16)))
    assert list(rows) == ["tiles", "tokenizer", "targets", "pretrain"]
    assert rows["targets"].seconds == 1_281_167 / BLOCK
    assert rows["targets"].disk == 4 * 16 * 1_281_167
    unknown = rows_of(recipe, BARE)["targets"]
    assert (unknown.seconds, unknown.source) == (None, UNKNOWN)
