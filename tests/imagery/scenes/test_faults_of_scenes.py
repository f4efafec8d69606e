"""Scenes as they should not be among good ones: what becomes of each, in packing and in check."""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from made_scenes import NORTH_UP, settings, values, write_scene
from PIL import Image

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import UNREAD
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.packing_journal import packed
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

GOOD = 4
"""Scenes of 16 windows beside the faulty one."""


def truncated(path: Path) -> None:
    """Its directory of blocks is whole, as in what is left of a download."""
    write_scene(path, values(256, 256))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def damaged_inside(path: Path) -> None:
    """One of four blocks of 32 px is overwritten."""
    write_scene(path, values(64, 64), interleave="pixel")
    with rasterio.open(path) as dataset:
        start, length = (int(dataset.get_tag_item(f"BLOCK_{what}_1_1", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * length)


def virtual(path: Path) -> None:
    shutil.copy(path.with_name("0.tif"), path.with_name("secret.bin"))
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        "<SourceFilename>secret.bin</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )


def declared_huge(path: Path, side: int) -> None:
    """A TIFF of a few hundred bytes."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0))


def several_pages(path: Path) -> None:
    pages = [Image.fromarray(band.astype(np.uint8)) for band in values(64, 64)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def in_degrees(path: Path) -> None:
    write_scene(path, values(64, 64), crs="EPSG:4326", transform=rasterio.Affine(1e-4, 0, 15, 0, -1e-4, 50))


def single_pixel(path: Path) -> None:
    write_scene(path, values(1, 1), tiled=None, blockxsize=None, blockysize=None)


FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "truncated": (truncated, {"truncated or damaged": 1}),
    "damaged inside": (damaged_inside, {"truncated or damaged": 4, "tile": 12}),
    "all nodata": (lambda path: write_scene(path, np.zeros((2, 64, 64), np.uint16), nodata=0), {"nodata": 16}),
    "nodata that its values never have": (lambda path: write_scene(path, values(64, 64), nodata=65535), {"tile": 16}),
    "nodata that is a measurement": (
        lambda path: write_scene(path, np.full((2, 64, 64), 9, np.uint16), nodata=9), {"nodata": 16}
    ),
    "a band fewer": (lambda path: write_scene(path, values(64, 64, 1)), {"number of bands": 16}),
    "another type": (lambda path: write_scene(path, values(64, 64).astype(np.uint8)), {"type of values": 16}),
    "another projection": (in_degrees, {"tile": 16}),
    "turned": (
        lambda path: write_scene(path, values(64, 64), transform=rasterio.Affine(8, 6, NORTH_UP.c, 6, -8, NORTH_UP.f)),
        {"tile": 16},
    ),
    "no coordinates": (lambda path: write_scene(path, values(64, 64), crs=None, transform=None), {"tile": 16}),
    "1 px": (single_pixel, {"smaller than a window": 1}),
    "virtual raster": (virtual, {"no raster": 1}),
    "declares more than a disk": (lambda path: declared_huge(path, 2**31 - 1), {"blocks too large": 1}),
    "declares 40,000 px": (lambda path: declared_huge(path, 40_000), {"truncated or damaged": 1}),
    "a link to itself": (lambda path: path.symlink_to(path), {UNREAD: 1}),
    "a link to nothing": (lambda path: path.symlink_to("nowhere.tif"), {UNREAD: 1}),
    "a picture": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0 a photograph"), {"no raster": 1}),
    "empty": (lambda path: path.write_bytes(b""), {"no raster": 1}),
    "several pages": (several_pages, {"several pages": 1}),
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    """Four good scenes."""
    for number in range(GOOD):
        write_scene(tmp_path / "scenes" / f"{number}.tif", values(64, 64, seed=number))
    return settings(tmp_path / "scenes", data_bad_files=0.5, data_nodata_files=0.5)


def packed_kinds(tmp_path: Path, data: DataSettings, path: str) -> Iterator[str]:
    """What became of the windows of one file."""
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles(run)
    for source, record in packed(plan.tiles(run).path).items():
        if source.path == path:
            yield record.kind or "tile"


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_stated_result(
    fault: str, tmp_path: Path, data: DataSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = FAULTS[fault]
    make(tmp_path / "scenes" / "fault.tif")
    survey(data)
    checked = " ".join(capsys.readouterr().out.split())
    found = list(packed_kinds(tmp_path, data, "fault.tif"))
    assert {kind: found.count(kind) for kind in found} == expected
    assert len(TileStore(tmp_path / "run" / "tiles")) == 16 * GOOD + expected.get("tile", 0)
    for kind, count in expected.items():
        if kind == "nodata":
            assert f"{count} of {16 * GOOD + sum(expected.values())} windows are left out" in checked
            assert "1 scene without a tile: fault.tif" in " ".join(capsys.readouterr().out.split())
        elif kind != "tile":
            assert f"unusable windows: {count} ({count} {kind};" in checked


def test_a_name_that_is_not_utf8_is_no_scene(tmp_path: Path, data: DataSettings) -> None:
    write_scene(tmp_path / "scenes" / "a.tif", values(64, 64))
    (tmp_path / "scenes" / "a.tif").rename(tmp_path / "scenes" / "caf\udce9.tif")
    survey(data)
    assert list(packed_kinds(tmp_path, data, "caf\udce9.tif")) == ["name is not UTF-8"]


def test_a_folder_that_links_to_one_above_is_walked_once(tmp_path: Path, data: DataSettings) -> None:
    (tmp_path / "scenes" / "loop").symlink_to(tmp_path / "scenes", target_is_directory=True)
    pack_tiles(Run(tmp_path / "run", Recipe(name="run", data=data)))
    assert len(TileStore(tmp_path / "run" / "tiles")) == 16 * GOOD


def test_a_folder_that_cannot_be_opened_is_named(
    tmp_path: Path, data: DataSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs the tests may be root, whom no folder keeps out."""
    (tmp_path / "scenes" / "shut").mkdir()
    real = os.scandir

    def refusing(path: object = ".") -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    survey(data)
    assert "folders that cannot be opened, left out: shut" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_nodata_value_in_most_scenes_ends_the_run(tmp_path: Path) -> None:
    for number in range(3):
        write_scene(tmp_path / "scenes" / f"{number}.tif", np.full((2, 64, 64), 7 + number, np.uint16), nodata=7)
    data = settings(tmp_path / "scenes", data_nodata_files=0.2)
    with pytest.raises(UserError, match=r"16 of 48 windows are left out.*data\.nodata_files allows 20%"):
        pack_tiles(Run(tmp_path / "run", Recipe(name="run", data=data)))


@pytest.mark.parametrize(
    "root", ["/vsicurl/http://127.0.0.1:9/scenes", "s3://bucket/scenes", "https://127.0.0.1/a.tif"]
)
def test_an_address_is_refused_before_anything_is_asked_for(root: str) -> None:
    with pytest.raises(ValueError, match=r"is an address\. .* name the files themselves in data\.scenes\.remote"):
        DataSettings(root=root)
