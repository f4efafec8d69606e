from pathlib import Path

import numpy as np
import pytest
from found_layout import tiles_in
from small_images import tiff

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.band_files import places, refuse_band_files
from gcl_custom.imagery.decoding import Form, reading
from gcl_custom.imagery.folders import common_form

NAMES = {
    "Sentinel-2": ["S2_00_B02.tif", "S2_00_B03.tif", "S2_00_B8A.tif"],
    "a folder for each place": ["00/B02.tif", "00/B03.tif", "00/B04.tif"],
    "a folder for each band": ["B02/00.tif", "B03/00.tif"],
    "Landsat": ["LC08_00_SR_B4.TIF", "LC08_00_SR_B5.TIF"],
    "radar": ["00_VV.tif", "00_VH.tif"],
    "names of colours, twice": ["train_red/red_patch_00.TIF", "train_nir/nir_patch_00.TIF"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_bands_of_the_same_places_are_refused_with_the_command_that_joins_them(names: list[str]) -> None:
    paths = [name.replace("00", f"{number:02d}") for number in range(8) for name in names]
    with pytest.raises(UserError, match="the files are bands of 8 places") as refusal:
        refuse_band_files([*paths, "map.tif"])
    assert f"rio stack {' '.join(sorted(names))} -o " in str(refusal.value)


@pytest.mark.parametrize(
    "paths",
    [
        ["a_B02.tif", "b_B02.tif", "c_B02.tif"],  # one band of each place
        ["A1.tif", "A2.tif", "B1.tif", "B2.tif"],  # a grid of rows and columns
        ["a_B02.jpg", "a_B03.jpg", "b_B02.jpg", "b_B03.jpg"],  # pictures
        ["forest/1.tif", "water/1.tif", "forest/2.tif"],
        ["a_B02_B03.tif", "a_B03_B04.tif"],
        ["a_B02.tif", "a_B03.tif", "b.tif", "c.tif", "d.tif", "e.tif"],
        ["bandage.tif", "redwood.tif", "b.tif"],
        [],
    ],
)
def test_other_names_are_no_bands_of_places(paths: list[str]) -> None:
    refuse_band_files(paths)


def test_a_place_has_a_file_for_each_band() -> None:
    assert places(["x/S2_B02.tif", "x/S2_B03.tif", "y.tif"]) == {
        "x/S2_*.tif": {"b02": "x/S2_B02.tif", "b03": "x/S2_B03.tif"}
    }


@pytest.mark.parametrize("bands", [1, 3])
def test_only_files_of_one_band_are_refused(tmp_path: Path, bands: int) -> None:
    for number in range(4):
        for band in ("B02", "B03"):
            tiff(tmp_path / f"{number}_{band}.tif", np.ones((bands, 8, 8), np.uint16))
    tiles = tiles_in(tmp_path).tiles
    with reading():
        if bands == 3:
            assert common_form(tmp_path, tiles, None) == Form(3, "uint16")
        else:
            assert common_form(tmp_path, tiles, ["radar"]) == Form(1, "uint16", ("radar",))
            with pytest.raises(UserError, match=r"rio stack 0_B02\.tif 0_B03\.tif -o 0\.tif"):
                common_form(tmp_path, tiles, None)
