"""The card that init writes: it holds what was found, states nothing that was not, and leaves the reading as it is."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from collected_images import png
from drawn_imagery import draw
from PIL import Image
from rasterio import Affine
from small_images import tiff

from gcl_custom.check.found_card import card_beside, found_card
from gcl_custom.check.survey import survey
from gcl_custom.errors import RecipeError, UserError
from gcl_custom.imagery.folders import layout_of
from gcl_custom.recipe.file import check_values, load_card, load_recipe
from gcl_custom.recipe.imagery import Card


def card_of(root: Path, *settings: str) -> tuple[Card, str]:
    recipe = load_recipe("small-bands", [f"data.root={root}", "data.size=16", *settings])
    text = found_card(recipe, survey(recipe.data), layout_of(recipe.data, None))
    return check_values(Card, yaml.safe_load(text), "card"), " ".join(text.replace("#", " ").split())


def test_classes_and_their_counts_stand_in_comments_and_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    root = tmp_path / "my tiles"
    draw(root, 3, 8, 20)
    (root / "forest" / "twin.png").write_bytes(png(7, 24))
    card, text = card_of(root)
    assert (card.name, card.title) == ("my-tiles", "my tiles")
    assert (card.source, card.licence, card.notes) == ("not stated", "not stated", "")
    assert (card.layout, card.splits, card.classes, card.bands) == ("recognised", None, None, None)
    for words in (
        "25 tiles (train",
        "tiles of 3 classes: field (8), forest (9), lake (8)",
        "20 x 20 px",
        "1 file: PNG, 24 x 24 px, 1 band of uint8, no coordinates",
        "3 bands of uint8, taken for red, green and blue recognised: splits and classes",
        "ONLY YOU KNOW: under which licence",
    ):
        assert words in text


def test_bands_that_all_files_name_are_stated_and_places_and_projection_are_told(tmp_path: Path) -> None:
    root = tmp_path / "tiles"
    root.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(1, 99, (2, 16, 16)).astype(np.int16)
        tiff(root / f"{number}.tif", pixels, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6))
    card, text = card_of(root)
    assert card.bands is None
    assert "2 bands of int16. ONLY YOU KNOW: what they are. Name them in the files' order: bands: [FIRST" in text
    assert "6 files: TIFF, 16 x 16 px, 2 bands of int16, EPSG:32633" in text
    assert "6 tiles with a place: longitude 15.0010 to 15.0010, latitude 45.1" in text
    assert "tiles of" not in text
    assert card_of(root, "data.bands=[VV, VH]")[0].bands == ["VV", "VH"]
    assert card_of(root, "data.use_bands=[2]")[0].bands is None


def test_a_card_lies_beside_its_recipe() -> None:
    assert card_beside(Path("some/my.tiles.yaml")) == Path("some/my.tiles.card.yaml")
    assert card_beside(Path("mine.yml")) == Path("mine.card.yml")


RECOGNISED = {"name": "c", "title": "t", "source": "s", "licence": "l", "layout": "recognised"}


@pytest.mark.parametrize("stated", [{"splits": {"train": "train"}}, {"classes": "folders"}])
def test_what_is_recognised_cannot_be_stated(stated: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"the card: .* leaves it to the folders"):
        check_values(Card, {**RECOGNISED, **stated}, "card")


def test_classes_of_a_recognised_layout_name_the_values_of_masks(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**RECOGNISED, "classes": ["dry", "wet"]}))
    for name in ("images", "masks"):
        (tmp_path / "tiles" / name).mkdir(parents=True)
    for number in range(4):
        (tmp_path / "tiles" / "images" / f"{number}.png").write_bytes(png(number, 16))
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(tmp_path / "tiles" / "masks" / f"{number}.png")
    data = load_recipe("small-rgb", [f"data.root={tmp_path / 'tiles'}"]).data
    layout = layout_of(data, load_card(str(tmp_path / "card.yaml")))
    assert (layout.classes, layout.kind.dense, len(layout.tiles)) == (["dry", "wet"], True, 4)
    _, text = card_of(tmp_path / "tiles")
    assert "values of masks: 0 (4), 1 (4) ONLY YOU KNOW: what the values mean" in text
    draw(tmp_path / "plain", 3, 2, 16)
    other = load_recipe("small-rgb", [f"data.root={tmp_path / 'plain'}"]).data
    with pytest.raises(UserError, match=r"classes name the values of masks, and .*plain has none"):
        layout_of(other, load_card(str(tmp_path / "card.yaml")))
