"""Arrays as scenes: each window has the values of the array, whatever its axes, its order and its type."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_scenes import settings, tiles_of, values, write_scene

from gcl_custom.check.survey import survey
from gcl_custom.imagery.decoding import Form, Tile, Unusable, form_of, reading
from gcl_custom.imagery.scenes.array_scenes import axes_in_words, opened_array
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.values.forms import TileType

FORM = Form(2, "uint16")
STORED = {
    "(h, w, c)": lambda pixels: np.ascontiguousarray(pixels.transpose(1, 2, 0)),
    "(c, h, w)": lambda pixels: pixels,
    "Fortran's order": lambda pixels: np.asfortranarray(pixels.transpose(1, 2, 0)),
    "big-endian": lambda pixels: pixels.astype(">u2"),
}


@pytest.mark.parametrize("stored", STORED)
def test_every_window_has_the_values_of_the_array(stored: str, tmp_path: Path) -> None:
    pixels = values(70, 100)
    name = "a & <b>.npy"  # as GDAL is told it, in XML
    np.save(tmp_path / name, STORED[stored](pixels))
    found = tiles_of(settings(tmp_path, overlap=5), FORM)
    assert len(found) == len(range(0, 55, 11)) * len(range(0, 85, 11))
    for source, tile in found.items():
        assert source.window is not None
        assert isinstance(tile, Tile)
        rows, columns = source.window.ends
        assert np.array_equal(tile.pixels, pixels[:, slice(*rows), slice(*columns)])


@pytest.mark.parametrize(("dtype", "stored"), [("uint8", "uint8"), ("int16", "int16"), ("float64", "float32")])
def test_arrays_of_one_band_and_of_other_types(dtype: str, stored: TileType, tmp_path: Path) -> None:
    pixels = values(48, 32, 1)[0].astype(dtype)
    np.save(tmp_path / "a.npy", pixels)
    with reading():
        assert form_of(tmp_path / "a.npy") == Form(1, stored)
    found = tiles_of(settings(tmp_path), Form(1, stored))
    whole = np.zeros((48, 32), dtype)
    for source, tile in found.items():
        assert source.window is not None
        assert isinstance(tile, Tile)
        whole[slice(*source.window.ends[0]), slice(*source.window.ends[1])] = tile.pixels[0]
    assert np.array_equal(whole, pixels)


def test_values_that_are_none_are_nodata(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    pixels[:, :16] = np.nan
    pixels[0, 20, 20], pixels[1, 20, 21] = np.inf, 1e36
    np.save(tmp_path / "a.npy", pixels)
    found = tiles_of(settings(tmp_path), Form(2, "float32"))
    kinds = Counter(tile.kind if isinstance(tile, Unusable) else "tile" for tile in found.values())
    assert kinds == {"nodata": 4, "tile": 12}
    lacking = [tile.lacking for tile in found.values() if isinstance(tile, Tile) and tile.lacking]
    assert lacking == [(pytest.approx(1 / 256), pytest.approx(1 / 256))]


class Planted:
    """What would leave a file behind if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def truncated(path: Path) -> None:
    np.save(path, values(64, 64))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def objects(path: Path) -> None:
    array = np.empty((64, 64), dtype=object)
    array[0, 0] = Planted()
    np.save(path, array, allow_pickle=True)


FAULTS = {
    "truncated": (truncated, "truncated or damaged", "mmap length"),
    "objects": (objects, "type of values", "never unpickled"),
    "no array": (lambda path: path.write_bytes(b"\x93NUMPY and no more"), "truncated or damaged", ""),
    "records": (lambda path: np.save(path, np.zeros((64, 64), "u2,u2")), "type of values", "plain numbers"),
    "half floats": (lambda path: np.save(path, np.zeros((64, 64), np.float16)), "type of values", "float16"),
    "a row": (lambda path: np.save(path, np.zeros(64)), "no picture", "shape (64)"),
    "nothing": (lambda path: np.save(path, np.zeros((0, 64))), "no picture", "shape (0, 64)"),
    "a cube": (lambda path: np.save(path, np.zeros((64, 64, 64), np.uint8)), "no picture", "the bands are"),
    "bands in the middle": (lambda path: np.save(path, np.zeros((64, 3, 64), np.uint8)), "no picture", "the bands are"),
    "1 px": (lambda path: np.save(path, np.zeros((1, 1), np.uint16)), "smaller than a window", "1 x 1 px"),
    "whole numbers of 32 bits": (lambda path: np.save(path, np.zeros((64, 64), np.int32)), "type of values", "int32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_stated_result(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, kind, detail = FAULTS[fault]
    (tmp_path / "scenes").mkdir()
    make(tmp_path / "scenes" / "a.npy")
    (found,) = set(map(str, tiles_of(settings(tmp_path / "scenes"), Form(1, "uint16")).values()))
    assert found.startswith(f"{kind} (")
    assert detail in found
    assert not Path("unpickled").exists()


def test_windows_cannot_be_resampled_as_an_array_lies_nowhere(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(64, 64))
    assert {str(tile)[:14] for tile in tiles_of(settings(tmp_path, metres=10), FORM).values()} == {"no coordinates"}


def test_check_says_which_axis_is_the_bands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside rasters, in a folder whose names could be those of a stack of tiles."""
    pixels = values(64, 64)
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "b.npy", pixels.transpose(1, 2, 0))
    np.save(tmp_path / "c.npy", pixels.transpose(1, 2, 0))
    found = survey(settings(tmp_path))
    assert len(found.split) == 48
    said = " ".join(capsys.readouterr().out.split())
    assert "arrays: 2 of (h, w, c), 1 of (c, h, w); bands are the shortest axis" in said
    write_scene(tmp_path / "d.tif", pixels)
    assert len(survey(settings(tmp_path)).split) == 64
    assert axes_in_words([tmp_path / "d.tif"]) is None


def test_an_array_is_never_whole_in_memory(tmp_path: Path) -> None:
    """One of a gigabyte, with holes, of which a few lines are read."""
    with (tmp_path / "a.npy").open("wb") as file:
        about = {"descr": "<u2", "fortran_order": False, "shape": (20_000, 20_000, 3)}
        np.lib.format.write_array_header_1_0(file, about)
        start = file.tell()
        file.truncate(start + 20_000 * 20_000 * 3 * 2)
        file.seek(start + (10_000 * 20_000 + 7) * 3 * 2)
        file.write(np.array([1, 2, 3], "<u2").tobytes())
    with reading(), opened_array(tmp_path / "a.npy") as dataset:
        found = dataset.read(window=((10_000, 10_002), (7, 9)))
    assert found[:, 0, 0].tolist() == [1, 2, 3]
    assert found.sum() == 6


def test_an_array_of_many_axes_is_refused_by_its_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(NoScene, match=r"shape \(2, 3, 4, 5\)"), opened_array(tmp_path / "a.npy"):
        pass
