from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcl_custom.check import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Form
from gcl_custom.recipe.imagery import DataSettings, SyntheticScenesSettings


def folder(root: Path, count: int = 40) -> Path:
    for number in range(count):
        place = root / ("forest", "water")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:03d}.png")
    return root


def test_survey_finds_what_packing_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "root")
    (root / "water" / "text.jpg").write_text("text")
    tiles = survey.survey(DataSettings(root=str(root), size=16))
    assert (tiles.form, tiles.rgb, tiles.classes) == (Form(3, "uint8"), True, ["forest", "water"])
    assert [tiles.count(split) for split in ("train", "valid", "test")] == [28, 6, 6]
    assert tiles.count("train", 1) == 14
    out = capsys.readouterr().out
    assert "unusable files: 1 (1 not an image; all 41 files were read)" in out
    assert "water/text.jpg: not an image" in out


def test_scenes_that_are_not_drawn_yet_are_counted(tmp_path: Path) -> None:
    data = DataSettings(
        root=str(tmp_path / "none"), size=16, synthetic=SyntheticScenesSettings(tiles=100, near_infrared=True)
    )
    tiles = survey.survey(data)
    assert (tiles.form, tiles.rgb, len(tiles.classes)) == (Form(4, "uint16"), False, 5)
    assert [tiles.count(split, 0) for split in ("train", "valid", "test")] == [14, 3, 3]
    assert not (tmp_path / "none").exists()


def test_what_would_end_packing_ends_the_check(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        survey.survey(DataSettings(root=str(tmp_path / "none"), size=16))
    with pytest.raises(UserError, match="none for the valid and the test split"):
        survey.survey(DataSettings(root=str(folder(tmp_path / "one", 1)), size=16))
