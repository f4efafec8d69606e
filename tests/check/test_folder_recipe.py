"""The recipe of a folder of images: which one, and how it is fitted."""

from pathlib import Path

import numpy as np
import pytest
from drawn_imagery import draw
from PIL import Image

from gcl_custom.check.folder_recipe import MEANT_FOR, MEASURED, MOST_REPEATED, folder_recipe, shorter_sides
from gcl_custom.imagery.folders import FoundTile
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.file import load_recipe


@pytest.mark.parametrize(("bands", "expected"), [(3, "small-rgb"), (4, "small-bands")])
def test_colour_begins_with_public_weights_and_other_bands_with_random_ones(
    bands: int, expected: str, tmp_path: Path
) -> None:
    draw(tmp_path / "tiles", bands, each=4, size=72)
    name, recipe = folder_recipe(tmp_path / "tiles", [])
    assert name == expected
    assert recipe.pretrain.continues == (bands == 3)
    assert recipe.data.size == load_recipe(expected).data.size == 64


def test_steps_stay_the_same_whatever_the_number_of_tiles(tmp_path: Path) -> None:
    """One file many times over, since only the number counts: epochs x tiles is constant between the bounds."""
    (tmp_path / "tiles").mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "tiles" / "0.png")
    epochs = load_recipe("small-rgb").pretrain.epochs

    def of(train: int) -> int:
        for number in range(1, round(train / 0.7)):
            link = tmp_path / "tiles" / f"{number}.png"
            if not link.exists():
                link.hardlink_to(tmp_path / "tiles" / "0.png")
        return folder_recipe(tmp_path / "tiles", [])[1].pretrain.epochs

    assert of(20) == epochs * MOST_REPEATED
    few, whole = folder_recipe(tmp_path / "tiles", [])[1].pretrain, load_recipe("small-rgb").pretrain
    assert few.epochs // few.probe_every == whole.epochs // whole.probe_every
    assert of(MEANT_FOR // 2) == 2 * epochs
    assert of(MEANT_FOR) == epochs
    assert of(5 * MEANT_FOR) == epochs // 5


@pytest.mark.parametrize(("side", "size"), [(200, 64), (50, 48), (28, 24), (10, 16)])
def test_tiles_are_no_larger_than_the_files(side: int, size: int, tmp_path: Path) -> None:
    draw(tmp_path / "tiles", 3, each=4, size=side)
    assert folder_recipe(tmp_path / "tiles", [])[1].data.size == size


def test_what_the_user_sets_comes_last(tmp_path: Path) -> None:
    draw(tmp_path / "tiles", 3, each=4, size=64)
    recipe = folder_recipe(tmp_path / "tiles", ["data.size=32", "pretrain.epochs=1", "name=mine"])[1]
    assert (recipe.data.size, recipe.pretrain.epochs, recipe.name) == (32, 1, "mine")


def test_no_more_files_than_said_are_measured(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "0.png")
    tiles = [FoundTile(Source("0.png"), None, None)] * (2 * MEASURED - 1)
    assert list(shorter_sides(tmp_path, tiles)) == [20] * MEASURED
