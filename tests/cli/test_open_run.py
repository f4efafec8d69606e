"""The argument of a command: a recipe, the name of a shipped one, or a folder of images."""

from contextlib import chdir
from pathlib import Path

import pytest
from collected_images import files_below, zipped
from drawn_imagery import draw

from gcl_custom.cli.open_run import opened
from gcl_custom.errors import UserError
from gcl_custom.files import write_json
from gcl_custom.runs.run import Run

RUNS = Path("runs")


def begin(run: Run) -> None:
    """What the first command leaves."""
    run.path.mkdir(parents=True)
    with run.saved():
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader types, with a folder of 24 colour pictures of 32 px."""
    draw(tmp_path / "My tiles", bands=3, each=8, size=32)
    return tmp_path


def test_a_folder_of_colour_pictures_continues_public_weights_under_its_name(folder: Path) -> None:
    with chdir(folder):
        run = opened(RUNS, "My tiles", None, ["pretrain.batch=8"])
        assert run.path == RUNS / "My-tiles"
        recipe = run.recipe
        assert (recipe.name, recipe.data.root, recipe.data.size) == ("My-tiles", "My tiles", 32)
        assert (recipe.pretrain.start.name, recipe.pretrain.batch) == ("package", 8)
        assert not RUNS.exists()
        assert opened(RUNS, "My tiles", "other").path == RUNS / "other"
        with chdir("My tiles"):
            assert opened(RUNS, ".", None).recipe.name == "My-tiles"


def test_an_archive_is_opened_as_the_folder_in_it(folder: Path) -> None:
    with chdir(folder):
        zipped(Path("my tiles.zip"), files_below(folder / "My tiles"))
        run = opened(RUNS, "my tiles.zip", None)
        assert (run.path, run.recipe.name) == (RUNS / "my-tiles", "my-tiles")
        assert (run.recipe.data.root, run.recipe.data.size) == ("my tiles.zip", 32)
        begin(run)
        assert opened(RUNS, "my tiles.zip", None).recipe == run.recipe


def test_a_run_that_was_begun_on_a_folder_keeps_its_recipe(folder: Path) -> None:
    with chdir(folder):
        begin(opened(RUNS, "My tiles", None, ["pretrain.epochs=3"]))
        draw(folder / "My tiles" / "more", bands=3, each=8, size=32)
        assert opened(RUNS, "My tiles/", None).recipe.pretrain.epochs == 3
        assert opened(RUNS, str(folder / "My tiles"), None).recipe.pretrain.epochs == 3
        assert opened(RUNS, "My tiles", None, ["pretrain.epochs=4"]).recipe.pretrain.epochs == 4
        draw(folder / "b" / "My tiles", bands=3, each=1, size=32)
        with pytest.raises(UserError, match=r"run My-tiles already, on the images in My tiles.*--run NEW_NAME"):
            opened(RUNS, "b/My tiles", None)


def test_what_could_mean_two_things_is_refused_and_both_ways_are_named(folder: Path) -> None:
    (folder / "My tiles").rename(folder / "wildfire")
    with chdir(folder):
        with pytest.raises(UserError, match=r"\./wildfire.*gcl-custom recipes copy wildfire OTHER\.yaml"):
            opened(RUNS, "wildfire", None)
        assert opened(RUNS, "./wildfire", None).recipe.data.root == "wildfire"


def test_what_is_no_recipe_and_no_folder_of_images_is_said(folder: Path) -> None:
    with chdir(folder):
        with pytest.raises(UserError, match=r"There is no recipe file tile and no folder of images"):
            opened(RUNS, "tile", None)
        (folder / "empty").mkdir()
        with pytest.raises(UserError, match="empty holds no image"):
            opened(RUNS, "empty", None)
        begin(opened(RUNS, "My tiles", None))
        (RUNS / "My-tiles" / "tiles").mkdir()
        write_json(RUNS / "My-tiles" / "tiles" / "stage.json", {})
        with pytest.raises(UserError, match=r"the folder of a run.*--run My-tiles"):
            opened(RUNS, "runs/My-tiles", None)
