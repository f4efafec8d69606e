import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import tiff

from gcl_custom.check.inventory import BINS, FileForm, Inventory, form_in, seen
from gcl_custom.imagery.decoding import Tile, reading
from gcl_custom.imagery.source import Source

NAMES = [Source(f"{number}.tif") for number in range(4)]


def tile(pixels: np.ndarray) -> Tile:
    return Tile(pixels, 0.0, grey=False, alpha=False, scene=False)


def saved(form: str, mode: str = "RGB") -> bytes:
    written = io.BytesIO()
    Image.new(mode, (7, 5)).save(written, form)
    return written.getvalue()


def test_the_form_of_a_file_is_that_of_its_header(tmp_path: Path) -> None:
    pixels = np.ones((4, 6, 9), np.uint16)
    placed = tiff(tmp_path / "b.tif", pixels.astype(np.int16), crs="EPSG:32633")
    with reading():
        assert form_in(tiff(tmp_path / "a.tif", pixels)) == FileForm("TIFF", 9, 6, 4, "uint16", "")
        assert form_in(placed) == FileForm("TIFF", 9, 6, 4, "int16", "EPSG:32633")
        own = "+proj=laea +lat_0=45 +lon_0=10 +datum=WGS84 +units=m"  # a projection without a number
        named = form_in(tiff(tmp_path / "c.tif", pixels, crs=own))
    assert named is not None
    assert named.projection
    assert len(named.projection) < 20
    assert form_in(saved("JPEG")) == FileForm("JPEG", 7, 5, 3, "uint8", "")
    assert form_in(saved("PNG", "RGBA")) == FileForm("PNG", 7, 5, 4, "uint8", "")
    assert form_in(saved("PNG", "I;16")) == FileForm("PNG", 7, 5, 1, "uint16", "")
    written = io.BytesIO()
    np.save(written, pixels)
    assert form_in(written.getvalue()) == FileForm("array", 9, 6, 4, "uint16", "")
    assert form_in(b"text") is None


def test_copies_blank_tiles_and_forms_are_counted() -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 1000, (2, 16, 16)).astype(np.uint16) for _ in range(3)]
    pixels.append(np.full((2, 16, 16), 500, np.uint16))
    content = [saved("JPEG"), saved("PNG"), saved("JPEG"), None]
    digests = ["a", "b", "a", "c"]
    found = Inventory(
        4, 9, {n: seen(c, tile(p), d) for n, c, p, d in zip(NAMES, content, pixels, digests, strict=True)}
    )
    assert found.copies == [[NAMES[0], NAMES[2]]]
    assert found.blank == [NAMES[3]]
    assert [(form.kind, count) for form, count in found.forms] == [("JPEG", 2), ("PNG", 1)]


def test_a_band_that_varies_keeps_a_tile_from_being_blank() -> None:
    pixels = np.zeros((2, 16, 16), np.uint8)
    pixels[1] = np.arange(256).reshape(16, 16)
    assert Inventory(1, 1, {NAMES[0]: seen(None, tile(pixels), "a")}).blank == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_histogram_counts_the_values_of_its_band_within_its_range(dtype: type) -> None:
    pixels = np.zeros((2, 64, 64), dtype)
    pixels[0] = np.arange(64)[:, None]
    pixels[1] = -5 if dtype is not np.uint8 else 5
    found = Inventory(1, 1, {NAMES[0]: seen(None, tile(pixels), "a")})
    counts, borders = found.histogram(0)
    assert (len(counts), len(borders)) == (BINS, BINS + 1)
    assert 60 <= counts.sum() <= 64
    assert borders[0] == pytest.approx(0, abs=0.1)
    assert borders[-1] == pytest.approx(63, abs=0.1)
    assert found.histogram(1)[0].sum() == 64
