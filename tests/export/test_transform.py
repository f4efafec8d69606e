"""One file, picture or array becomes the input that packing makes of it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from gcl_custom.errors import UserError
from gcl_custom.export.transform import Transform
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan


@pytest.fixture(scope="module")
def colours(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TileStore, Transform]:
    return transform_of(make_run(tmp_path_factory.mktemp("colours")))


@pytest.fixture(scope="module")
def bands(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[TileStore, Transform]:
    """GeoTIFFs of four bands of uint16."""
    return transform_of(make_run(tmp_path_factory.mktemp("bands"), bands=4))


def transform_of(run: Any) -> tuple[TileStore, Transform]:
    store = TileStore(plan.tiles(run).path)
    return store, Transform.of(store, run.recipe.data)


def files_of(store: TileStore) -> list[str]:
    return [source.path for source in store.sources]


def imagery(store: TileStore) -> Path:
    return store.path.parents[2] / "imagery"


@pytest.mark.parametrize("kind", ["colours", "bands"])
def test_a_file_becomes_its_packed_tile(kind: str, request: pytest.FixtureRequest) -> None:
    store, transform = request.getfixturevalue(kind)
    expected = store.unit(store.read(torch.arange(len(store))))
    found = [transform(imagery(store) / file) for file in files_of(store)]
    assert torch.equal(torch.stack(found), expected)
    assert torch.equal(transform(str(imagery(store) / files_of(store)[0])), expected[0])


def test_a_picture_and_arrays_of_either_order_agree_with_the_file(colours: tuple[TileStore, Transform]) -> None:
    store, transform = colours
    file = imagery(store) / files_of(store)[0]
    with Image.open(file) as image:
        array = np.asarray(image)
        for given in (image, array, array.transpose(2, 0, 1), np.asfortranarray(array)):
            assert torch.equal(transform(given), transform(file))


def test_larger_pictures_are_resized_and_cropped_like_their_files(
    colours: tuple[TileStore, Transform], tmp_path: Path
) -> None:
    """Grey ones, and such with transparent pixels, too."""
    _, transform = colours
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 4), dtype=np.uint8)
    for mode in ("RGB", "L", "RGBA", "P"):
        picture = Image.fromarray(pixels).convert(mode)
        picture.save(tmp_path / f"{mode}.png")
        assert torch.equal(transform(picture), transform(tmp_path / f"{mode}.png"))
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    for given in (grey, grey[None], grey[..., None]):
        assert torch.equal(transform(given), transform(tmp_path / "L.png"))


def test_a_large_jpeg_agrees_with_its_picture(colours: tuple[TileStore, Transform], tmp_path: Path) -> None:
    """From its path, from an open file, and from its pixels."""
    _, transform = colours
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert torch.equal(transform(tmp_path / "a.jpg"), transform(image))
        assert torch.equal(transform(tmp_path / "a.jpg"), transform(np.asarray(image)))


def test_an_array_of_four_bands_agrees_with_its_geotiff(bands: tuple[TileStore, Transform]) -> None:
    store, transform = bands
    file = imagery(store) / files_of(store)[5]
    with rasterio.open(file) as dataset:
        array = dataset.read()
    signed = array.astype(np.int16)
    for given in (array, array.transpose(1, 2, 0), signed):
        assert torch.equal(transform(given), transform(file))
    signed[0, 0] = -1
    with pytest.raises(UserError, match=r"-1 to .* among tiles of uint16"):
        transform(signed)


def test_a_copy_from_another_process_gives_the_same(colours: tuple[TileStore, Transform]) -> None:
    store, transform = colours
    file = imagery(store) / files_of(store)[0]
    copied = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copied(file), transform(file))


def test_what_cannot_be_used_is_refused_with_its_reason(colours: tuple[TileStore, Transform], tmp_path: Path) -> None:
    _, transform = colours
    (tmp_path / "text.png").write_text("no image")
    faults: dict[str, Any] = {
        r"gone\.png cannot be used: cannot be opened": tmp_path / "gone.png",
        r"text\.png cannot be used: not an image": tmp_path / "text.png",
        r"this ndarray cannot be used: number of bands \(4, the data set has 3\)": np.zeros((4, 40, 40), np.uint8),
        "int32; only uint8": np.zeros((3, 40, 40), np.int32),
        "float32 among tiles of uint8": np.zeros((3, 40, 40), np.float64),
        "uint16 among tiles of uint8": np.zeros((3, 40, 40), np.uint16),
        r"this Image cannot be used: type of values \(uint16 among tiles of uint8;": Image.new("I;16", (40, 40)),
        r"shape \(\(2, 3, 40, 40\)": np.zeros((2, 3, 40, 40), np.uint8),
        "smaller than data.size": np.zeros((20, 40), np.uint8),
    }
    for message, given in faults.items():
        with pytest.raises(UserError, match=message):
            transform(given)
