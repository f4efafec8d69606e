import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio

from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.scenes.rasters import orientation_of, raster_form, read_raster, upright


def header(order: str, big: bool, tags: dict[int, int]) -> bytes:
    """A TIFF that ends after its tags, each of one number of 16 bits."""
    letters = {"<": b"II", ">": b"MM"}[order]
    start = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    one = f"{order}HHQH6x" if big else f"{order}HHIH2x"
    entries = b"".join(struct.pack(one, tag, 3, 1, value) for tag, value in tags.items())
    return letters + start + struct.pack(f"{order}{'Q' if big else 'H'}", len(tags)) + entries


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_the_tag_is_found_in_every_kind_of_tiff(order: str, big: bool) -> None:
    assert orientation_of(header(order, big, {256: 8, 274: 6, 277: 3})) == 6
    assert orientation_of(header(order, big, {256: 8, 277: 3})) == 1
    assert orientation_of(header(order, big, {274: 99})) == 1
    whole = header(order, big, {256: 8, 274: 6})
    for end in range(len(whole) - 8):
        assert orientation_of(whole[:end]) == 1


def test_turning_is_as_exif_defines_it() -> None:
    """The first row and column of the stored pixels lie at these edges of the upright picture."""
    stored = np.arange(6).reshape(1, 2, 3)
    assert upright(stored, 1).tolist() == stored.tolist()
    assert upright(stored, 2)[0].tolist() == [[2, 1, 0], [5, 4, 3]]  # top, right
    assert upright(stored, 3)[0].tolist() == [[5, 4, 3], [2, 1, 0]]  # bottom, right
    assert upright(stored, 4)[0].tolist() == [[3, 4, 5], [0, 1, 2]]  # bottom, left
    assert upright(stored, 5)[0].tolist() == [[0, 3], [1, 4], [2, 5]]  # left, top
    assert upright(stored, 6)[0].tolist() == [[3, 0], [4, 1], [5, 2]]  # right, top
    assert upright(stored, 7)[0].tolist() == [[5, 2], [4, 1], [3, 0]]  # right, bottom
    assert upright(stored, 8)[0].tolist() == [[2, 5], [1, 4], [0, 3]]  # left, bottom


def test_a_palette_of_sixteen_bits_gives_its_colours(tmp_path: Path) -> None:
    numbers = np.array([[[0, 3], [574, 1000]]], dtype=np.uint16)
    about = {"driver": "GTiff", "count": 1, "height": 2, "width": 2, "dtype": "uint16", "photometric": "palette"}
    with reading(), rasterio.open(tmp_path / "a.tif", "w", **about) as target:
        target.write(numbers)
        target.write_colormap(1, {3: (10, 20, 30, 255), 574: (40, 50, 60, 255), 1000: (70, 80, 90, 255)})
    with reading(), rasterio.open(tmp_path / "a.tif") as dataset:
        form = raster_form(dataset)
        picture = read_raster(dataset, None, None)
    assert (form.bands, form.dtype) == (3, "uint8")
    assert picture.pixels.transpose(1, 2, 0).tolist() == [[[0, 0, 0], [10, 20, 30]], [[40, 50, 60], [70, 80, 90]]]
