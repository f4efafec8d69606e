"""Files that are made to have the kit read other files, or ask addresses."""

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from small_images import class_folders, tiff

from gcl_custom.check.survey import survey
from gcl_custom.imagery.collections.folder_walk import walk
from gcl_custom.imagery.decoding import Form, Unusable, decode, form_of, reading
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.scenes.opening import PNG
from gcl_custom.imagery.scenes.places import place_of
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

SECRET = np.full((1, 40, 40), 4242, dtype=np.uint16)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this machine, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815  the names that the server looks for

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
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand">'
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


def huge_tiff(width: int, height: int) -> bytes:
    """A TIFF of a few hundred bytes that declares so many pixels."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def huge_png(side: int, depth: int) -> bytes:
    """The header of a PNG of so many grey pixels, and next to no data."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 9))]
    parts.append((b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return PNG + b"".join(chunks)


@pytest.mark.parametrize(
    "data",
    [huge_tiff(2**31 - 1, 1), huge_tiff(2**31 - 1, 2**31 - 1), huge_tiff(40_000, 40_000), huge_png(200_000, 16),
     huge_png(200_000, 8)],
    ids=["row", "square", "scene", "png16", "png8"],
)  # fmt: skip
def test_a_file_that_declares_too_many_pixels_is_unusable(data: bytes) -> None:
    with reading(), pytest.raises(Unusable) as refusal:
        decode(data)
    assert refusal.value.kind == "too large"
    assert "cut it" in refusal.value.detail


def test_a_window_of_a_huge_file_is_read() -> None:
    """Not that there are pixels in this one."""
    with reading(), pytest.raises(Unusable) as refusal:
        decode(huge_tiff(40_000, 40_000), window=Window(0, 0, 16, 16))
    assert refusal.value.kind == "truncated or damaged"


def test_pipes_and_devices_are_passed_over_and_dangling_links_are_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    (tmp_path / "whole.png").write_bytes(b"x")
    assert walk(tmp_path) == (["gone.tif", "whole.png"], 2, [], [])
    with reading(), pytest.raises(Unusable, match=r"cannot be opened \(No such file"):
        form_of(tmp_path / "gone.tif")


def test_hostile_files_among_good_ones_end_neither_packing_nor_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "root")
    (root / "forest" / "a.tif").write_bytes(huge_tiff(2**31 - 1, 2))
    (root / "forest" / "b.png").write_bytes(huge_png(200_000, 16))
    (root / "forest" / "c.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "water" / "d.png")
    data = DataSettings(root=str(root), size=16, bad_files=0.2)
    survey(data)
    assert "unusable files: 3 (2 too large, 1 cannot be opened" in capsys.readouterr().out
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles(run)
    assert plan.tiles(run).facts["unusable"] == 3


@pytest.mark.parametrize("folder", ["", "caf\udce9"])
def test_a_name_that_is_not_utf8_is_counted(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a class, where no name of the folder can be stored; and when tiles are packed again."""
    root = class_folders(tmp_path / "root", 40)
    (root / "forest" / "000.png").rename(root / "forest" / "caf\udce9.png")
    if folder:
        (root / "forest").rename(root / folder)
    data = DataSettings(root=str(root), size=16, bad_files=0.6)
    count = 20 if folder else 1
    survey(data)
    assert f"unusable files: {count} ({count} name is not UTF-8" in capsys.readouterr().out
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles(run)
    (root / "water" / "new.png").write_bytes((root / "water" / "001.png").read_bytes())
    pack_tiles(run)
    assert plan.tiles(run).facts["unusable"] == count
    assert len(TileStore(plan.tiles(run).path)) == 41 - count
    listed = (plan.tiles(run).path / "unusable.txt").read_text(encoding="utf-8")
    assert "caf\\udce9.png\tname is not UTF-8 (rename the file or its folder)" in listed
    monkeypatch.setattr("gcl_custom.check.survey.MOST_READ", 5)
    survey(data)  # of files that were not read, too


@pytest.mark.parametrize("name", ["a\u2028b.png", "a\u0085b.png", "a\x0bb.png", "a\rb.png", "a\nb.png", "[red]a.png"])
def test_a_name_with_odd_separators_is_packed_twice(name: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    (root / "forest" / "000.png").rename(root / "forest" / name)
    run = Run(tmp_path / "run", Recipe(name="run", data=DataSettings(root=str(root), size=16)))
    pack_tiles(run)
    (root / "forest" / "new.png").write_bytes((root / "water" / "001.png").read_bytes())
    pack_tiles(run)
    assert Source(f"forest/{name}") in TileStore(plan.tiles(run).path).sources
