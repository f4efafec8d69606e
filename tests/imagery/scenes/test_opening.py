from pathlib import Path

import numpy as np
import pytest
import rasterio
from made_scenes import values, write_scene
from rasterio.errors import RasterioError

from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.scenes.opening import PNG, driver_of, in_memory, opened


@pytest.mark.parametrize(
    ("head", "driver"),
    [(b"II*\0", "GTiff"), (b"MM\0+", "GTiff"), (b"\0\0\0\x0cjP  \r\n", "JP2OpenJPEG"),
     (PNG + b" " * 16 + b"\x10", "PNG"), (PNG + b" " * 16 + b"\x08", None),
     (b"\xff\xd8\xff", None), (b"<VRTDataset", None), (b"", None)],
)  # fmt: skip
def test_first_bytes_name_the_driver(head: bytes, driver: str | None) -> None:
    assert driver_of(head) == driver


def test_no_file_beside_a_raster_is_read(tmp_path: Path) -> None:
    """They would hide pixels, bring overviews, call a band alpha, and move the raster."""
    pixels = values(64, 64)
    write_scene(tmp_path / "a.tif", pixels, crs=None, transform=rasterio.Affine.identity())
    write_scene(tmp_path / "a.tif.msk", np.zeros((1, 64, 64), np.uint8))
    write_scene(tmp_path / "a.tif.ovr", pixels[:, ::2, ::2])
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n500000\n5500000\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>1, 2, 3, 4, 5, 6</GeoTransform>"
        '<PAMRasterBand band="2"><ColorInterp>Alpha</ColorInterp></PAMRasterBand></PAMDataset>'
    )
    with rasterio.open(tmp_path / "a.tif") as fooled:
        assert (fooled.colorinterp[1].name, fooled.crs, len(fooled.files)) == ("alpha", "EPSG:32633", 4)
    with reading(), opened(tmp_path / "a.tif", "GTiff") as dataset:
        assert (dataset.crs, dataset.transform, dataset.overviews(1)) == (None, rasterio.Affine.identity(), [])
        assert dataset.colorinterp[1].name != "alpha"
        assert (dataset.read_masks() == 255).all()
        assert dataset.files == [str(tmp_path / "a.tif")]
        assert np.array_equal(dataset.read(), pixels)


def test_a_name_is_no_more_than_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL and rasterio would look into an archive, for a page, or at an address."""
    pixels = values(32, 32)
    for name in ("zip:a.zip!b.tif", "GTIFF_DIR:1:a.tif", "s3:a.tif", "a?b&c.tif"):
        write_scene(tmp_path / "plain.tif", pixels)
        (tmp_path / "plain.tif").rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        with opened(Path(name), "GTiff") as dataset:
            assert np.array_equal(dataset.read(), pixels)


def test_a_raster_is_the_same_by_path_and_by_bytes(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(64, 48))
    with opened(tmp_path / "a.tif", "GTiff") as one, in_memory((tmp_path / "a.tif").read_bytes()) as other:
        assert np.array_equal(one.read(), other.read())
        assert (one.crs, one.transform) == (other.crs, other.transform)


def test_another_driver_than_the_one_that_is_named_does_not_open_it(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text('<VRTDataset rasterXSize="4" rasterYSize="4"></VRTDataset>')
    with pytest.raises(RasterioError), opened(tmp_path / "a.tif", "GTiff"):
        pass
