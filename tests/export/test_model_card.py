"""The model card: the run's facts, and nothing of the machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from gcl_custom.evaluation.figures import Figure
from gcl_custom.evaluation.inference import labelled
from gcl_custom.evaluation.verdict import summarise
from gcl_custom.export import backbone_of_run
from gcl_custom.export import model_card as cards
from gcl_custom.export.model_card import model_card
from gcl_custom.files import write_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

CARD = """
name: lakes
title: Lakes and forests
source: a survey of lakes
licence: CC BY 4.0
bands: [red, green, blue]
classes: [field, forest, lake]
notes: The lakes are small.
"""


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("card")
    (folder / "lakes.yaml").write_text(CARD)
    made: Run = make_run(folder, card=str(folder / "lakes.yaml"))
    return made


HOME = "/home/someone/lab"
VGG16 = {"name": "vgg16", "weights": "given below"}
GENERATORS: dict[str, dict[str, Any]] = {
    "own": {"tokenizer": {"perceptual": VGG16}},
    "public": {
        "tokenizer": {"name": "llamagen", "weights": "given below", "perceptual": VGG16},
        "maskgit": {"name": "halton", "weights": "given below"},
    },
    "icgan": {"name": "icgan", "weights": "given below", "encoder": "given below", "features": VGG16},
    "diffusion": {"name": "diffusion", "features": VGG16},
    "unclip": {"name": "unclip", "features": VGG16},
}


NAMES = ("backbone", "masks", "label_column")
"""Keys of a recipe that are never a path of one machine."""


def with_folders(section: BaseModel) -> dict[str, Any]:
    """The values of a section, where each text that may be any text is a path of one machine."""
    values = section.model_dump(mode="json")
    for key, field in type(section).model_fields.items():
        if isinstance(value := getattr(section, key), BaseModel):
            values[key] = with_folders(value)
        elif field.annotation in (str, str | None) and not field.metadata and key not in NAMES:
            values[key] = f"{HOME}/{key}.file"
    return values


def recipe_of(generator: dict[str, Any]) -> Recipe:
    values = {"name": "r", "data": {"root": "x", "size": 256}, "generator": generator, "compare": {"arms": ["gcl"]}}
    return check_values(Recipe, values, "test")


def card_of(run: Run) -> tuple[dict[str, Any], dict[str, str]]:
    """Front matter, and section -> text."""
    _, head, body = model_card(backbone_of_run.load_backbone(run, "gcl", 4), ["backbone = None"]).split("---\n", 2)
    sections = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in body.split("\n## ")}
    return yaml.safe_load(head), sections


def test_data_licence_and_input_are_stated(run: Run) -> None:
    head, sections = card_of(run)
    assert head["library_name"] == "timm"
    for text in ("Lakes and forests", "a survey of lakes", "CC BY 4.0", "field, forest, lake", "The lakes are small"):
        assert text in sections["Data"]
    assert "CC BY 4.0" in sections["Licence"]
    assert sections["Input"] == backbone_of_run.load_backbone(run, "gcl", 4).input
    assert "```python\nbackbone = None\n```" in sections["Use"]
    assert "seed 4" in next(iter(sections.values()))


def test_the_recipe_in_it_is_whole_and_names_no_folder_of_this_machine(run: Run) -> None:
    _, sections = card_of(run)
    values = yaml.safe_load(sections["Training"].split("```yaml\n")[1].split("```")[0])
    recipe = check_values(Recipe, values, "card")
    assert recipe.model_copy(update={"data": run.recipe.data}) == run.recipe
    assert (recipe.data.root, recipe.data.card) == ("imagery", "lakes.yaml")
    assert str(run.path.parent) not in "".join(sections.values())


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_recipe_with_any_generator_loses_its_folders(run: Run, kind: str) -> None:
    recipe = check_values(Recipe, with_folders(recipe_of(GENERATORS[kind])), "test")
    shared = cards._shareable(recipe)
    assert HOME not in shared
    values = yaml.safe_load(shared)
    assert [values["data"][key] for key in ("root", "card", "labels")] == ["root.file", "card.file", "labels.file"]
    assert values["cost_benefit"]["fid_weights"] == "fid_weights.file"

    known = backbone_of_run.load_backbone(run, "gcl", 4)
    other = recipe.model_copy(update={"data": run.recipe.data})
    card = model_card(replace(known, run=replace(run, recipe=other)), [])
    assert HOME not in card
    assert str(run.path.parent) not in card


def test_of_a_store_neither_the_bucket_nor_the_cache_is_told() -> None:
    store = {"address": "s3://our-secret-bucket/tiles", "cache": f"{HOME}/shards"}
    recipe = check_values(Recipe, {"name": "x", "data": {"root": "gone", "store": store}}, "test")
    shared = yaml.safe_load(cards._shareable(recipe))["data"]["store"]
    assert (shared["address"], shared["cache"]) == ("tiles", "shards")


def test_of_weights_that_no_stage_reads_the_folder_is_not_told_either() -> None:
    """An edit of latents leaves the transformer alone; its path stands in the recipe all the same."""
    recipe = recipe_of(GENERATORS["own"] | {"maskgit": {"weights": f"{HOME}/m.safetensors"}})
    edited = check_values(Recipe, recipe.model_dump(mode="json") | {"views": {"strategy": {"name": "noise"}}}, "test")
    assert yaml.safe_load(cards._shareable(edited))["generator"]["maskgit"]["weights"] == "m.safetensors"


def test_an_id_of_the_hub_is_told_whole_and_a_folder_that_looks_like_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of({"name": "diffusion", "model": "models/own"})
    generator = yaml.safe_load(cards._shareable(recipe))["generator"]
    assert (generator["model"], generator["captions"]) == ("models/own", "Salesforce/blip-image-captioning-base")
    (tmp_path / "models" / "own").mkdir(parents=True)
    assert yaml.safe_load(cards._shareable(recipe))["generator"]["model"] == "own"


def test_scores_stand_in_it_once_the_comparison_is_done(run: Run) -> None:
    _, sections = card_of(run)
    assert "not finished" in sections["Scores"]
    assert "divided at random" in sections["Scores"]
    store = TileStore(plan.tiles(run).path)
    truth = store.labels[labelled(store, "test")].numpy()
    wrong = np.where(np.arange(len(truth)) < 3, (truth + 1) % 3, truth)
    predictions = {Figure("gcl", "linear"): np.array([truth, wrong]), Figure("untrained", "knn"): np.array([wrong] * 2)}
    stage = plan.compare(run)
    stage.begin()
    scores = summarise(store.kind, predictions, truth, store.classes, [3, 4]) | {"split": "Divided by a river."}
    write_json(stage.path / "scores.json", scores)
    stage.finish()
    text = card_of(run)[1]["Scores"]
    right = 1 - 3 / len(truth)
    assert f"linear probe {100 * right:.0f} %" in text  # of seed 4; few tiles carry no decimals
    linear = scores["scores"]["gcl"]["linear"]
    assert linear["mean"] == pytest.approx((1 + right) / 2)
    edges = f"{100 * linear['low']:.0f}–{100 * linear['high']:.0f}"
    interval = f"{100 * linear['mean']:.0f} ({edges}; seeds 100, {100 * right:.0f})"
    assert f"| GCL | {interval} |  |" in text
    assert scores["verdict"] in text
    assert "Divided by a river." in text
    with_top_5 = scores["scores"]["gcl"] | {"linear_top5": linear}  # as there is of more than five classes
    write_json(stage.path / "scores.json", scores | {"scores": {"gcl": with_top_5}})
    text = card_of(run)[1]["Scores"]
    assert "|  | linear probe | linear probe, top-5 |" in text
    assert f"| GCL | {interval} | {interval} |" in text


def test_synthetic_imagery_is_called_so(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path, synthetic={"tiles": 20})
    assert "synthetic" in model_card(backbone_of_run.load_backbone(run, "gcl", None), [])
