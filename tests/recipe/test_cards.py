"""The cards of public data sets: what they state, and that the programs in their headers make what they promise."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from found_layout import tiles_in

from gcl_custom.errors import RecipeError
from gcl_custom.imagery.label_table import read_labels
from gcl_custom.recipe.file import band_names, load_card, load_recipe, shipped
from gcl_custom.recipe.imagery import DataSettings

CLASSES = {"imagenet-100": 100, "voc07": 20, "coco": 80, "cifar-10": 10, "food-101": 101}


@pytest.mark.parametrize("name", shipped("datasets"))
def test_every_card_states_source_licence_and_bands(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.source
    assert card.licence
    assert len(card.bands) == len(set(card.bands))
    if isinstance(card.classes, list):
        assert len(card.classes) == len(set(card.classes)) == CLASSES.get(name, len(card.classes))
    if card.splits:
        assert "train" in card.splits


def test_a_card_is_no_recipe() -> None:
    with pytest.raises(RecipeError, match=r"coco\.yaml is a card, .* Give a recipe"):
        load_recipe(shipped("datasets")["coco"])


def test_folders_are_the_classes_of_data_sets_with_very_many() -> None:
    assert {name for name in shipped("datasets") if load_card(name).classes == "folders"} == {
        "imagenet-1k",
        "places365",
    }
    ids = load_card("imagenet-100").classes
    assert ids
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in ids)
    assert ids == sorted(ids)


@pytest.mark.parametrize("name", [name for name in shipped("recipes") if name.startswith("imagenet")])
def test_recipes_that_were_not_run_say_so(name: str) -> None:
    text = shipped("recipes")[name].read_text(encoding="utf-8")
    assert "Nothing of this recipe was run by this project" in " ".join(text.replace("#", "").split())
    recipe = load_recipe(name)
    assert (recipe.data.size, recipe.pretrain.crop_size, recipe.pretrain.batch) == (256, 224, 800)
    assert (recipe.pretrain.pairing, recipe.pretrain.backbone, recipe.pretrain.epochs) == (
        ["crop", "flip"], "resnet50", 100,
    )  # fmt: skip


def head(card: str) -> str:
    """The comment at the head of a card."""
    return shipped("datasets")[card].read_text(encoding="utf-8").partition("\nname: ")[0]


def run_header(card: str, folder: Path) -> None:
    """Run the program that stands in the comment at the head of a card."""
    lines = shipped("datasets")[card].read_text(encoding="utf-8").splitlines()
    program = [line[4:] for line in lines if line.startswith("#   ")]
    done = subprocess.run([sys.executable, "-c", "\n".join(program)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def pictures(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_annotations_of_voc_become_labels(tmp_path: Path) -> None:
    objects = {"000001": [("dog", 0), ("person", 0), ("dog", 1)], "000002": [("chair", 1)], "000003": [("cat", 0)],
               "000004": [("sofa", 0), ("chair", 1)]}  # fmt: skip
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    for name, found in objects.items():
        inner = "".join(f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in found)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{inner}</annotation>")
        pictures(tmp_path / "JPEGImages", f"{name}.jpg")
    for split, names in (("train", "000001\n000002"), ("val", "000003"), ("test", "000004")):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    run_header("voc07", tmp_path)
    layout = tiles_in(tmp_path / "JPEGImages", load_card("voc07"), labels="labels.csv", multi_label=True)
    assert [(str(tile.source), tile.split, tile.label) for tile in layout.tiles] == [
        ("000001.jpg", "train", "dog;person"), ("000002.jpg", None, None), ("000003.jpg", "valid", "cat"),
        ("000004.jpg", "test", "sofa"),
    ]  # fmt: skip


def test_annotations_of_coco_become_labels(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    for part, shown in (("train2017", [(7, 1), (7, 18), (7, 1), (8, 18)]), ("val2017", [(9, 1)])):
        images = [{"id": image, "file_name": f"{image:012d}.jpg"} for image in (7, 8, 9, 10)]
        annotations = [{"image_id": image, "category_id": category} for image, category in shown]
        about = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(about))
    files = [f"train2017/{image:012d}.jpg" for image in (7, 8, 10)] + ["val2017/000000000009.jpg"]
    pictures(tmp_path, *files)
    run_header("coco", tmp_path)
    layout = tiles_in(tmp_path, load_card("coco"), labels="labels.csv", multi_label=True)
    assert [(tile.split, tile.label) for tile in layout.tiles] == [
        ("train", "dog;person"), ("train", "dog"), (None, None), ("test", "person"),
    ]  # fmt: skip
    assert layout.classes == ["dog", "person"]


def test_the_split_of_food_101_becomes_a_table(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "train.txt").write_text("sushi/1\nwaffles/2\n")
    (tmp_path / "meta" / "test.txt").write_text("sushi/3\n")
    files = ["sushi/1.jpg", "sushi/3.jpg", "waffles/2.jpg"]
    pictures(tmp_path / "images", *files)
    run_header("food-101", tmp_path)
    rows = read_labels(tmp_path / "images" / "labels.csv", files)
    assert {file: tuple(row) for file, row in rows.items()} == {
        "sushi/1.jpg": ("train", "sushi"), "sushi/3.jpg": ("test", "sushi"), "waffles/2.jpg": ("train", "waffles"),
    }  # fmt: skip


@pytest.mark.parametrize("card", [name for name in shipped("datasets") if "Recipe: " in head(name)])
def test_the_recipe_that_a_card_names_takes_the_card(card: str) -> None:
    (recipe,) = re.findall(r"Recipe: (\S+), with", head(card))
    overrides = re.findall(r"--set (\S+)", head(card))
    assert f"data.card={card}" in overrides
    data = load_recipe(recipe, [*overrides, "data.root=images"]).data
    assert band_names(data) == load_card(card).bands


def test_bands_are_named_by_the_recipe_or_by_the_card_but_not_in_two_ways(tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    card.write_text("{name: m, title: M, source: s, licence: l, bands: [blue, green]}")
    assert band_names(DataSettings(root="x")) is None
    assert band_names(DataSettings(root="x", bands=["a", "b"])) == ["a", "b"]
    assert band_names(DataSettings(root="x", card=str(card))) == ["blue", "green"]
    assert band_names(DataSettings(root="x", card=str(card), bands=["blue", "green"])) == ["blue", "green"]
    with pytest.raises(RecipeError, match=r"\['a', 'b'\] are not those of the card .*\['blue', 'green'\]"):
        band_names(DataSettings(root="x", card=str(card), bands=["a", "b"]))
