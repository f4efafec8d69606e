import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from full_disks import limited
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gcl_custom.errors import UserError
from gcl_custom.imagery.synthetic_scenes import CLASSES, draw, scene, stored
from gcl_custom.recipe.imagery import SyntheticScenesSettings

FEW = SyntheticScenesSettings(tiles=20, pixels=32, seed=3)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.tif"))}


def test_a_scene_is_a_function_of_its_seed_and_number() -> None:
    for name in CLASSES:
        first = scene(name, 48, 0, 7)
        assert first.shape == (4, 48, 48)
        assert 0 <= first.min() < first.max() <= 1
        assert np.array_equal(first, scene(name, 48, 0, 7))
        assert not np.allclose(first, scene(name, 48, 0, 8))
        assert not np.allclose(first, scene(name, 48, 1, 7))


def test_drawing_fills_class_folders_evenly_and_always_the_same(tmp_path: Path) -> None:
    draw(tmp_path / "a", FEW)
    (tmp_path / "b").mkdir()
    draw(tmp_path / "b", FEW)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert [sum(path.startswith(name) for path in first) for name in CLASSES] == [4] * 5
    assert not list(tmp_path.glob(".*"))
    places = set()
    for path in (tmp_path / "a").rglob("*.tif"):
        with rasterio.open(path) as dataset:
            assert (dataset.count, dataset.shape, dataset.dtypes[0]) == (3, (32, 32), "uint8")
            assert dataset.crs.to_epsg() == 32633
            places.add(dataset.bounds)
    assert len(places) == 20


def test_four_bands_of_uint16_leave_zero_to_nodata(tmp_path: Path) -> None:
    draw(tmp_path / "a", FEW.model_copy(update={"near_infrared": True}))
    path = next((tmp_path / "a").rglob("*.tif"))
    with rasterio.open(path) as dataset:
        pixels = dataset.read()
    assert (pixels.shape, pixels.dtype) == ((4, 32, 32), np.uint16)
    assert 0 < pixels.min() < pixels.max() <= 10_000


def test_what_is_there_is_never_drawn_over(tmp_path: Path) -> None:
    draw(tmp_path / "a", FEW)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.tif")}
    draw(tmp_path / "a", FEW)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.tif")}
    with pytest.raises(UserError, match="holds scenes of other settings"):
        draw(tmp_path / "a", FEW.model_copy(update={"seed": 4}))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="holds files that were not drawn"):
        draw(tmp_path / "b", FEW)


def test_a_killed_drawing_leaves_no_folder_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("gcl_custom.imagery.synthetic_scenes._geotiff", fails)
        with pytest.raises(KeyboardInterrupt):
            draw(tmp_path / "a", FEW)
    assert not (tmp_path / "a").exists()
    draw(tmp_path / "a", FEW)
    assert len(contents(tmp_path / "a")) == 20


def test_a_drawing_that_finds_no_room_says_so(tmp_path: Path) -> None:
    """GDAL, writing the file itself, would leave it cut off, without an error."""
    with pytest.raises(OSError, match=r"\.tif"), limited(200):
        draw(tmp_path / "a", FEW)
    assert not list(tmp_path.iterdir())


def test_mean_colour_alone_does_not_give_the_class_away_but_texture_helps() -> None:
    """Learnable, yet not trivial: about 0.50 from mean colours, 0.80 with spread and gradient."""
    names = list(CLASSES)
    pixels = np.stack([stored(scene(names[i % 5], 64, 0, i), False) for i in range(500)]).astype(float)
    labels = np.arange(500) % 5
    colour = pixels.mean((2, 3))
    texture = np.c_[colour, pixels.std((2, 3)), np.abs(np.diff(pixels, axis=3)).mean((2, 3))]

    def score(features: np.ndarray) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return float(probe.fit(features[:350], labels[:350]).score(features[350:], labels[350:]))

    assert 0.3 < score(colour) < 0.65
    assert score(texture) > 0.65


def test_drawing_is_fast_enough_for_a_first_run() -> None:
    start = time.process_time()
    for number in range(50):
        scene(list(CLASSES)[number % 5], 64, 0, number)
    assert 50 / (time.process_time() - start) > 40  # 240 on an idle core


def test_two_that_draw_into_one_folder_at_once_draw_all_of_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda root: draw(root, FEW), [tmp_path / "scenes"] * 2))
    draw(tmp_path / "alone", FEW)
    assert contents(tmp_path / "scenes") == contents(tmp_path / "alone")
