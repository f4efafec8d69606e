from pathlib import Path

import numpy as np
import pytest
from small_images import class_folders, tiff

from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.reporting import bands_seen
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def run_on(root: Path, tokenizer: dict | None = None, **data: object) -> Run:
    """A run whose tiles are packed, and whose tokenizer is said to be trained."""
    values = {"name": "r", "data": {"root": str(root), "size": 16, **data}, "generator": {"tokenizer": tokenizer or {}}}
    run = Run(root.parent / "run", check_values(Recipe, values, "test"))
    assert bands_seen.shown(run) == bands_seen.perceptual(run) == ""
    pack_tiles(run)
    stage = plan.tokenizer(run)
    stage.begin()
    stage.finish(feature_network="a network")
    return run


@pytest.fixture
def five(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    for number in range(6):
        tiff(
            tmp_path / "root" / f"{number}.tif",
            np.random.default_rng(number).integers(1, 9, (5, 16, 16)).astype("uint16"),
        )
    return tmp_path / "root"


def test_bands_are_named_in_the_groups_in_which_the_perceptual_loss_saw_them(five: Path) -> None:
    run = run_on(five, bands=list("abcde"), quicklook=["c", 2, 5])
    assert bands_seen.perceptual(run).endswith("at random, for red, green and blue: a, b and c; d, e and a.")
    assert bands_seen.shown(run).startswith("Pictures show c, b and e as red, green and blue, stretched")


def test_one_band_stands_for_three(five: Path) -> None:
    run = run_on(five, use_bands=[4])
    assert bands_seen.perceptual(run).endswith("the one band stands for red, green and blue.")
    assert bands_seen.shown(run).startswith("Pictures show band 4 in grey, stretched")


def test_without_a_network_all_bands_are_compared(five: Path) -> None:
    run = run_on(five, {"perceptual": {"name": "none"}})
    assert bands_seen.perceptual(run) == "The perceptual loss compares the structure of all bands, without a network."


def test_of_colours_there_is_nothing_to_say(tmp_path: Path) -> None:
    run = run_on(class_folders(tmp_path / "root", 6))
    assert bands_seen.shown(run) == bands_seen.perceptual(run) == ""
