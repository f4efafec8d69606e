import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from small_images import tiff

from gcl_custom.imagery.decoding import Form, Tile, Unusable, reading, tile_from
from gcl_custom.imagery.read_tile import ReadTile, read_tile
from gcl_custom.imagery.scenes.places import place_of
from gcl_custom.imagery.source import Source, Window
from gcl_custom.recipe.imagery import DataSettings

FORM = Form(2, "uint16")
DATA = DataSettings(root="r", size=16)
LEFT, RIGHT = Window(0, 0, 16, 16), Window(16, 0, 16, 16)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A GeoTIFF of two tiles side by side in the folder ``north``."""
    path = tmp_path / "north" / "scene.tif"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(1, 9000, (2, 16, 32)).astype(np.uint16)
    tiff(path, pixels, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_500_000))
    return path


def read(path: Path, window: Window | None = None) -> ReadTile:
    return read_tile(path.parents[1], Source(f"north/{path.name}", window), FORM, DATA)


@pytest.mark.parametrize("window", [None, LEFT, RIGHT])
def test_tile_and_place_are_those_of_the_bytes(scene: Path, window: Window | None) -> None:
    found, content = read(scene, window), scene.read_bytes()
    with reading():
        tile, truth = found.tile(), tile_from(content, FORM, 16, DATA.upscale, DATA.nodata, window)
        assert isinstance(tile, Tile)
        assert np.array_equal(tile.pixels, truth.pixels)
        assert found.place() == place_of(content, window)


def test_two_windows_make_two_tiles_with_digests_and_places_of_their_own(scene: Path) -> None:
    with rasterio.open(scene) as dataset:
        pixels = dataset.read()
    with reading():
        left, right = read(scene, LEFT), read(scene, RIGHT)
        assert np.array_equal(np.concatenate([left.tile().pixels, right.tile().pixels], axis=2), pixels)
        assert (left.place().x, right.place().x) == (500_080, 500_240)
    assert len({left.digest(), right.digest(), read(scene).digest()}) == 3


def test_a_digest_goes_by_content_and_window_not_by_path(scene: Path) -> None:
    assert read(scene).digest() == hashlib.blake2b(scene.read_bytes(), digest_size=16).hexdigest()
    before = {window: read(scene, window).digest() for window in (None, LEFT, RIGHT)}
    moved = scene.rename(scene.with_name("moved.tif"))
    assert {window: read(moved, window).digest() for window in before} == before
    moved.write_bytes(moved.read_bytes() + b"\0")
    assert not set(before.values()) & {read(moved, window).digest() for window in before}


def test_the_bytes_are_read_once(scene: Path) -> None:
    found = read(scene, LEFT)
    scene.unlink()
    with reading():
        assert isinstance(found.tile(), Tile)
        assert found.place() is not None
    assert found.digest() != read(scene, LEFT).digest()


def test_what_cannot_be_read_or_used_says_why(scene: Path) -> None:
    missing = read(scene.with_name("gone.tif"))
    assert str(missing.tile()) == "cannot be opened (No such file or directory)"
    assert missing.digest() == "cannot be opened: north/gone.tif"
    assert missing.place() is None
    scene.with_name("text.jpg").write_text("text")
    with reading():
        for found, kind in (
            (read(scene.with_name("text.jpg")), "not an image"),
            (read(scene, Window(20, 0, 16, 16)), "window outside the file"),
            (read(scene, Window(0, 0, 8, 8)), "smaller than data.size"),
        ):
            problem = found.tile()
            assert isinstance(problem, Unusable)
            assert problem.kind == kind
