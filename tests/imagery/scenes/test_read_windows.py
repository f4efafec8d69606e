from pathlib import Path

import numpy as np
import pytest
from made_scenes import settings, tiles_of, values, write_scene

from gcl_custom.imagery.decoding import Form, Tile, Unusable
from gcl_custom.imagery.scenes.read_windows import sameness
from gcl_custom.imagery.values.forms import Picture, missing


@pytest.mark.parametrize("metres", [None, 10, 5])
def test_a_block_of_nan_is_nodata_and_reaches_no_tile(metres: float | None, tmp_path: Path) -> None:
    """Of 16 windows of 16 px at 10 m one lies in it whole, two by half and one by a quarter."""
    pixels = values(64, 64).astype(np.float32) / 7
    pixels[:, 24:48, 24:48] = np.nan
    pixels[0, 0, 0] = np.inf
    write_scene(tmp_path / "a.tif", pixels)
    form = Form(2, "float32")
    found = tiles_of(settings(tmp_path, tile=16 if metres != 5 else 32, metres=metres), form)
    empty = [source.window[:2] for source, tile in found.items() if isinstance(tile, Unusable)]
    assert empty == [(32, 32) if metres != 5 else (64, 64)]
    whole = [tile for tile in found.values() if isinstance(tile, Tile)]
    assert len(whole) == 15
    lowest = missing("float32")
    for tile in whole:
        assert np.isfinite(tile.pixels).all()
        held = tile.pixels[tile.pixels != lowest]
        assert held.min() >= 0
        assert held.max() <= 9000 / 7
    assert sorted(round(tile.nodata, 2) for tile in whole)[-3:] == pytest.approx([0.25, 0.5, 0.5], abs=0.04)


def test_a_band_without_data_beside_one_with_keeps_its_own_mask(tmp_path: Path) -> None:
    pixels = values(32, 32).astype(np.float32)
    pixels[1, :16] = np.nan
    write_scene(tmp_path / "a.tif", pixels)
    for metres in (None, 20):
        found = tiles_of(settings(tmp_path, metres=metres, data_nodata=1.0), Form(2, "float32"))
        top = next(tile for tile in found.values() if isinstance(tile, Tile))
        assert top.nodata == 0
        assert top.lacking[0] == 0
        assert top.lacking[1] == pytest.approx(1.0 if metres is None else 0.5)


def test_sameness_is_the_share_of_pixels_like_their_right_neighbour() -> None:
    pixels = np.arange(16).reshape(1, 4, 4)
    assert sameness(Picture(pixels, None, False)) == 0
    assert sameness(Picture(pixels // 2, None, False)) == pytest.approx(8 / 12)
    assert sameness(Picture(pixels * 0, None, False)) == 1
    assert sameness(Picture(np.concatenate([pixels, pixels * 0]), None, False)) == 0, "in all bands"
