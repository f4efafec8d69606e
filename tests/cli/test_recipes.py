"""What ships is listed and copied, and the keys are printed."""

from pathlib import Path

from command_line import gcl_custom

from gcl_custom.recipe.file import load_recipe
from gcl_custom.recipe.reference import reference


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    assert "quickstart" in gcl_custom(tmp_path, "recipes", "list").stdout
    gcl_custom(tmp_path, "recipes", "copy", "quickstart", "mine.yaml")
    assert (tmp_path / "mine.yaml").is_file()
    said = gcl_custom(tmp_path, "recipes", "copy", "eurosat-small", "land.yaml").stdout
    assert "take out data.card" in said
    copied = (tmp_path / "land.yaml").read_text()
    assert copied.startswith("# A copy of the shipped recipe eurosat-small.")
    assert "interval" not in copied, "scores of the shipped data set are not those of a copy"
    assert load_recipe(tmp_path / "land.yaml") == load_recipe("eurosat-small", ["name=land"])
    again = gcl_custom(tmp_path, "recipes", "copy", "quickstart", "mine.yaml", check=False)
    assert again.returncode == 1
    assert "exists already" in again.stdout + again.stderr


def test_the_printed_keys_are_the_reference(tmp_path: Path) -> None:
    assert gcl_custom(tmp_path, "recipes", "keys").stdout == reference()
