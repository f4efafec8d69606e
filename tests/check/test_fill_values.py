from pathlib import Path

import numpy as np
import pytest
import rasterio

from gcl_custom.check.fill_values import at_corners, fill_values
from gcl_custom.check.survey import survey
from gcl_custom.imagery.decoding import reading
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings


def reflectance(dtype: str = "int16", bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 10_000, (bands, 32, 32)).astype(dtype)


def told(*tiles: np.ndarray) -> list[str]:
    values = np.concatenate([tile.reshape(len(tile), -1)[:, ::16] for tile in tiles], axis=1)
    return list(fill_values([at_corners(tile) for tile in tiles], values))


@pytest.mark.parametrize(("dtype", "value"), [("int16", -9999), ("float32", -9999), ("uint16", 65535)])
def test_a_far_value_that_is_constant_at_an_edge_is_told_with_its_remedy(dtype: str, value: int) -> None:
    filled, whole = reflectance(dtype), reflectance(dtype)
    filled[:, :, :4] = value
    (sentence,) = told(filled, whole, whole)
    assert sentence.startswith(f"1 of 3 tiles has the value {value:g} in all bands")
    assert sentence.endswith(f"--set data.fill={value:g}")
    assert told(whole) == []


def test_what_software_fills_with_counts_in_one_band_too() -> None:
    tile = reflectance()
    tile[1, :, :4] = -9999  # such as a band of heights
    (sentence,) = told(tile, reflectance())
    assert "1 of 2 tiles has the value -9999 in band 2, at a corner" in sentence


def test_what_is_no_fill_value_is_passed_over() -> None:
    near, single, spot, few, byte = (reflectance() for _ in range(5))
    near[:, :8] = 0  # a dark lake
    single[1, :8] = -20_000  # in one band alone, as classes or shares may be
    spot[:, 8:16, 8:16] = -9999  # not at the edge
    few[:, 0, 0] = -9999
    byte = (byte % 100).astype(np.uint8)
    byte[:, :8] = 255
    classes = np.ones((1, 32, 32), np.int16)
    classes[:, :8] = 3
    assert [told(tile) for tile in (near, single, spot, few, byte, classes)] == [[]] * 6


@pytest.mark.parametrize("scenes", [None, ScenesSettings(tile=32)])
def test_the_key_that_check_names_takes_the_value_for_no_data(
    scenes: ScenesSettings | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").mkdir()
    for number in range(20):
        values = np.random.default_rng(number).integers(100, 10_000, (3, 32, 32)).astype(np.int16)
        values[:, :, :8] = -9999
        about = {"driver": "GTiff", "count": 3, "height": 32, "width": 32, "dtype": "int16"}
        with reading(), rasterio.open(tmp_path / "root" / f"{number}.tif", "w", **about) as file:
            file.write(values)
    data = DataSettings(root=str(tmp_path / "root"), size=32, scenes=scenes)
    survey(data)
    assert "20 of 20 tiles have the value -9999 in all bands" in capsys.readouterr().out
    survey(data.model_copy(update={"fill": -9999.0}))
    out = capsys.readouterr().out
    assert "data.fill" not in out
    assert "20 of 20 tiles have values without data (nodata, NaN or infinite), 25 % of all values" in out
