from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from small_images import class_folders, tiff
from tiny_recipe import TINY

from gcl_custom.check import check, step_costs
from gcl_custom.check.estimates import StageCost
from gcl_custom.check.imagery_page import imagery_page
from gcl_custom.check.inventory import FileForm
from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run


def recipe_of(root: Path, **data: object) -> Recipe:
    return TINY.model_copy(update={"data": DataSettings(root=str(root), size=16, **data)})


def test_the_page_holds_what_was_found_and_escapes_names(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "<b>root", 40)
    (root / "forest").rename(root / "<i>forest")
    (root / "water" / "<u>.png").write_text("text")
    Image.fromarray(np.full((24, 24, 3), 9, np.uint8)).save(root / "water" / "blank.png")
    (root / "water" / "copy.png").write_bytes((root / "water" / "001.png").read_bytes())
    recipe = recipe_of(root)
    page = imagery_page(
        recipe, survey(recipe.data), [StageCost("tiles", "42 tiles", 61.0, 10**6, 10**9)], ["no <room>"]
    )
    for text in (
        "&lt;b&gt;root", "&lt;i&gt;forest", "water/&lt;u&gt;.png", "not an image", "water/001.png = water/copy.png",
        "<li>water/blank.png</li>", "24 × 24", "1 min 01 s", "1 GB", "no &lt;room&gt;", "This would not run",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("<svg") == 3
    for outside in ("<b>", "<i>", "<u>", "http://", "https://", "src="):
        assert outside not in page


def test_windows_are_told_by_scene(tmp_path: Path) -> None:
    """The form is that of the scene, and windows without data are counted, not listed one by one."""
    pixels = np.random.default_rng(0).integers(1, 9000, (4, 64, 96)).astype(np.uint16)
    pixels[:, :, :32] = 0
    tiff(tmp_path / "a.tif", pixels, nodata=0, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6))
    recipe = recipe_of(tmp_path, scenes={"tile": 16})
    tiles = survey(recipe.data)
    assert tiles.inventory is not None
    assert tiles.inventory.forms == [(FileForm("TIFF", 96, 64, 4, "uint16", "EPSG:32633"), 1)]
    page = imagery_page(recipe, tiles, [], [])
    assert "96 × 64" in page
    assert "24 of 24 windows were read" in page
    assert "8 windows: nodata" in page
    assert "a.tif#" not in page


def test_a_page_is_written_where_it_is_asked_for_and_what_would_stop_ends_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_costs, "REPEATS", 1)
    root = class_folders(tmp_path / "root", 40)
    run = Run(tmp_path / "runs" / "r", recipe_of(root))
    check.check(run, page_to=tmp_path / "check.html")
    assert "This would not run" not in (tmp_path / "check.html").read_text()
    for number in range(5):
        (root / "water" / f"text{number}.png").write_text("text")
    with pytest.raises(UserError, match=r"would not run\. packing would stop: 5 of 45 files are unusable"):
        check.check(run, page_to=tmp_path / "check.html")
    assert "This would not run" in (tmp_path / "check.html").read_text()
    assert "not an image" in capsys.readouterr().out
    for wrong in ("check.txt", "none/check.html"):
        with pytest.raises(UserError, match=r"--page: .* is no \.html file, or its folder is missing"):
            check.check(run, page_to=tmp_path / wrong)


def test_too_little_room_on_the_disk_ends_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    rows = [StageCost("tiles", "", 0.0, 0, 2000)]
    (told,) = check._room(rows, Run(tmp_path / "r", recipe_of(tmp_path)))
    assert "has 1 kB free, and 2 kB are needed: make room" in told
    assert check._room([StageCost("tiles", "", 0.0, 0, 500)], Run(tmp_path / "r", recipe_of(tmp_path))) == []
