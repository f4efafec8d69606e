from pathlib import Path

import pytest

from gcl_custom.errors import RecipeError
from gcl_custom.recipe.file import dump_recipe, load_card, load_recipe, shipped
from gcl_custom.recipe.recipe import Recipe

FIVE_MISTAKES = """
data: {root: tiles, siz: 64}
generator:
  tokenizer: {epochs: ten, perceptual: {name: vgg16}}
views: {mask_probability: 1.5}
pretrain: {anchor: rw}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def test_five_mistakes_give_five_messages_each_with_its_place(tmp_path: Path) -> None:
    found = mistakes(written(tmp_path, FIVE_MISTAKES))
    assert found == [
        "data.siz: unknown key; did you mean 'size'?",
        "generator.tokenizer.perceptual.weights: missing; it has no default, so give a value",
        "generator.tokenizer.epochs: given 'ten'; input should be a valid integer",
        "views.mask_probability: given 1.5; input should be less than or equal to 1",
        "pretrain.anchor: given 'rw'; input should be 'raw' or 'reconstructed'; did you mean 'raw'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {root: x}\npretrain: {optimizer: {name: lasr}}", "pretrain.optimizer.name: given 'lasr'.* mean 'lars'"),
        ("data: {root: x}\npretrain: {method: {name: dino, output: 9}}", "pretrain.method.output: .*'outputs'"),
        ("data: {root: x}\npretrain: {method: {prototypes: 9}}", "method.prototypes: unknown key; allowed here: cov"),
        ("data: {root: x}\npretrain: {optimizer: {name: lars, momentun: 0.9}}", "optimizer.momentun: .*'momentum'"),
        ("data: {root: x}\npretrain: {method: {variances: 1}}", "pretrain.method.variances: .*'variance'"),
        ("data: {root: x}\ncompare: {arms: [supervised]}", "compare: arms must contain gcl"),
        ("data: {root: x}\ngenerator: {maskgit: {width: 96, heads: 5}}", "maskgit: width 96 must be a multiple"),
        ("data: {root: x}\nhardware: {precision: fp16}", "hardware.precision: given 'fp16'"),
    ],
)
def test_each_mistake_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        load_recipe(written(tmp_path, text))


def test_yaml_takes_exponents_as_numbers_and_refuses_a_key_given_twice(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {root: x}\ngenerator: {tokenizer: {learning_rate: 1e-3}}")
    assert load_recipe(path).generator.tokenizer.learning_rate == 1e-3
    with pytest.raises(RecipeError, match=r"line 2, column 1: .*'data' is given twice"):
        load_recipe(written(tmp_path, "data: {root: x}\ndata: {root: y}"))
    with pytest.raises(RecipeError, match="line 1, column 7: not valid YAML"):
        load_recipe(written(tmp_path, "data: ]"))
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(written(tmp_path, "data: !!python/object/apply:os.system ['true']"))
    with pytest.raises(RecipeError, match="a mapping of sections, not str"):
        load_recipe(written(tmp_path, "wildfire"))


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {root: x}")
    recipe = load_recipe(
        path, ["pretrain.method.projector=[8, 8]", "generator.tokenizer.epochs=10", "views.order=halton"]
    )
    assert recipe.pretrain.method.projector == [8, 8]
    assert recipe.generator.tokenizer.epochs == 10
    assert recipe.views.order == "halton"
    assert mistakes(path, "views.oder=halton", "pretrain.epochs=0") == [
        "views.oder: unknown key; did you mean 'order'?",
        "pretrain.epochs: given 0; input should be greater than or equal to 1",
    ]
    with pytest.raises(RecipeError, match=r"write it as key\.path=value"):
        load_recipe(path, ["pretrain.epochs"])
    with pytest.raises(RecipeError, match="root is a value, not a section"):
        load_recipe(path, ["data.root.x=1"])


def test_the_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    for path in shipped("recipes").values():
        recipe = load_recipe(path)
        assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe


def test_every_shipped_card_is_valid_and_every_recipe_names_one() -> None:
    cards = {name: load_card(name) for name in shipped("datasets")}
    assert {load_recipe(path).data.card for path in shipped("recipes").values()} <= {*cards, None}
    with pytest.raises(RecipeError, match="there is no card 'nothing'"):
        load_card("nothing")


def test_a_missing_recipe_suggests_a_shipped_one() -> None:
    with pytest.raises(RecipeError, match="Did you mean the shipped recipe 'quickstart'"):
        load_recipe("quickstrat")
    assert isinstance(load_recipe("quickstart"), Recipe)


def test_texts_that_look_like_numbers_stay_texts(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "name: '1e3'\ndata: {root: '12e4', size: 64, bands: ['1e-5', '.5', red]}\n"))
    assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe


def test_a_section_that_is_null_can_be_filled(tmp_path: Path) -> None:
    """A kept recipe writes out what is absent in the file that it is from."""
    text = "data: {root: tiles, size: 64, scenes: null}\n"
    assert load_recipe(written(tmp_path, text), ["data.scenes.tile=64"]).data.scenes is not None


def test_a_batch_without_a_tile_for_each_process_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {root: tiles, size: 64}\npretrain: {batch: 2}\nhardware: {devices: 4}\n")
    assert any("pretrain.batch 2 has no tile for each of 4 processes" in line for line in mistakes(path))
