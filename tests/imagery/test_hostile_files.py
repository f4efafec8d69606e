"""Files that are made to have the kit read other files, or ask addresses."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from small_images import tiff

from gcl_custom.imagery.decoding import PNG, Form, Unusable, decode, form_of, place_of, reading

SECRET = np.full((1, 40, 40), 4242, dtype=np.uint16)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this machine, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"/vsicurl/http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def vrt(source: str) -> bytes:
    """A virtual raster of GDAL that shows the pixels of another file."""
    return (
        '<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def raw_band(path: str) -> bytes:
    """A virtual raster that takes the bytes of any file for pixels."""
    return (
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{path}</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>4</LineOffset></VRTRasterBand></VRTDataset>"
    ).encode()


WMS = b'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>'
MAGICS = {
    "PNG of 16 bits": PNG + b" " * 16 + b"\x10",
    "TIFF": b"II*\0",
    "BigTIFF": b"MM\0+",
    "JPEG 2000": b"\0\0\0\x0cjP  ",
    "none": b"",
}


@pytest.mark.parametrize("magic", MAGICS)
@pytest.mark.parametrize("kind", ["pixels", "raw", "address", "service"])
def test_a_file_that_names_others_is_refused_and_they_are_not_read(
    magic: str, kind: str, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    tiff(tmp_path / "secret.tif", SECRET)
    inner = {
        "pixels": vrt(str(tmp_path / "secret.tif")),
        "raw": raw_band(str(tmp_path / "secret.tif")),
        "address": vrt(f"{address}/a.tif"),
        "service": WMS,
    }[kind]
    (tmp_path / "a.tif").write_bytes(MAGICS[magic] + inner)
    with reading():
        with pytest.raises(Unusable):
            form_of(tmp_path / "a.tif")
        with pytest.raises(Unusable):
            decode(MAGICS[magic] + inner)
    assert paths == []


def test_metadata_of_a_tiff_that_name_an_address_are_not_followed(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, paths = asked
    with (
        reading(),
        rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, height=40, width=40, dtype="uint16") as target,
    ):
        target.write(SECRET)
        target.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"{address}/o.tif")
    data = (tmp_path / "a.tif").read_bytes()
    assert b"/o.tif" in data
    with reading():
        assert form_of(tmp_path / "a.tif") == Form(1, "uint16")
        assert (decode(data).pixels == 4242).all()
        assert place_of(data) is None
    assert paths == []


def test_files_beside_a_raster_are_not_read(tmp_path: Path) -> None:
    """They would hide the left half as nodata, and call the second band an alpha band."""
    tiff(tmp_path / "a.tif", np.repeat(SECRET, 2, 0))
    mask = np.zeros((1, 40, 40), dtype=np.uint8)
    mask[:, :, 20:] = 255
    tiff(tmp_path / "a.tif.msk", mask)
    tiff(tmp_path / "a.tif.ovr", mask[:, ::2, ::2])
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="2"><ColorInterp>Alpha</ColorInterp></PAMRasterBand></PAMDataset>'
    )
    with reading():
        with rasterio.open(tmp_path / "a.tif") as dataset:
            assert dataset.colorinterp[1].name == "alpha"
        assert form_of(tmp_path / "a.tif") == Form(2, "uint16")
        picture = decode((tmp_path / "a.tif").read_bytes())
    assert picture.valid is None
    assert (picture.pixels == 4242).all()
