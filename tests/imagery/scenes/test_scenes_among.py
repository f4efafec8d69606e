"""Which files beside scenes are none."""

from pathlib import Path

from gcl_custom.imagery.scenes.scenes_among import scenes_among
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings

FILES = ["a.tif", "a_clouds.tif", "a_labels.tif", "north/cover.tif"]
CLOUDS = {"cloud": {"file": "_clouds.tif", "values": [1]}}


def kept(root: Path, labels: str | None, scenes: dict[str, object], folder: Path | None = None) -> list[str]:
    data = DataSettings(root=str(root), labels=labels, scenes=ScenesSettings.model_validate(scenes))
    return scenes_among(folder or root, FILES, data)


def test_files_of_labels_and_of_clouds_are_no_scenes(tmp_path: Path) -> None:
    assert kept(tmp_path, None, {}) == FILES
    assert kept(tmp_path, None, CLOUDS) == ["a.tif", "a_labels.tif", "north/cover.tif"]
    assert kept(tmp_path, "*_labels.tif", CLOUDS) == ["a.tif", "north/cover.tif"]
    assert kept(tmp_path, "north/cover.tif", CLOUDS) == ["a.tif", "a_labels.tif"]


def test_the_raster_of_labels_is_one_wherever_its_folder_is_named_from(tmp_path: Path) -> None:
    """``embed`` and ``map`` take any folder; a raster of the same name elsewhere is a scene."""
    assert kept(tmp_path, "a.tif", {}, tmp_path / "north" / "..") == FILES[1:]
    assert kept(tmp_path, "a.tif", {}, tmp_path / "north") == FILES
