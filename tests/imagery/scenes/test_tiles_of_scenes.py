"""From scenes to tiles, as packing, check and embed see them."""

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from made_scenes import NORTH_UP, settings, tiles_of, values, write_scene

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles, packing_journal
from gcl_custom.imagery.decoding import Form, Tile, Unusable, form_of, reading
from gcl_custom.imagery.read_tile import cut, read_all
from gcl_custom.imagery.scenes import read_windows
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

FORM = Form(2, "uint16")


def packed(tmp_path: Path, data: DataSettings, name: str = "run") -> TileStore:
    run = Run(tmp_path / name, Recipe(name=name, data=data))
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path)


def facts(tmp_path: Path, data: DataSettings) -> dict[str, Any]:
    return plan.tiles(Run(tmp_path / "run", Recipe(name="run", data=data))).facts


def kinds(found: dict[Source, Tile | Unusable]) -> Counter[str]:
    return Counter(tile.kind if isinstance(tile, Unusable) else "tile" for tile in found.values())


STORED: dict[str, dict[str, Any]] = {
    "blocks": {},
    "strips": {"tiled": False, "blockxsize": None, "blockysize": 5},
    "band by band": {"interleave": "band"},
    "big-endian": {"endianness": "big", "bigtiff": "yes"},
    "cloud-optimised": {"driver": "COG", "tiled": None, "blockxsize": None, "blockysize": None, "blocksize": 128},
    "JPEG 2000": {"driver": "JP2OpenJPEG", "quality": 100, "reversible": "yes", "tiled": None, "compress": None,
                  "blockxsize": 64, "blockysize": 64},
}  # fmt: skip


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("overlap", [0, 5])
def test_every_tile_has_the_pixels_of_its_window(stored: str, overlap: int, tmp_path: Path) -> None:
    pixels = values(130, 200)
    write_scene(tmp_path / ("a.jp2" if stored == "JPEG 2000" else "a.tif"), pixels, **STORED[stored])
    found = tiles_of(settings(tmp_path, overlap=overlap), FORM)
    assert len(found) == len(range(0, 115, 16 - overlap)) * len(range(0, 185, 16 - overlap))
    for source, tile in found.items():
        assert source.window is not None
        assert isinstance(tile, Tile)
        rows, columns = source.window.ends
        assert np.array_equal(tile.pixels, pixels[:, slice(*rows), slice(*columns)])


def test_200_random_tiles_of_real_rasters_are_those_that_rasterio_reads(real_data: Path) -> None:
    root = real_data / "geotiff"
    data = settings(root, 64, sameness=1.0, data_nodata=1.0)
    sources = cut(root, sorted(path.name for path in root.glob("*.tif")), data)
    assert len(sources) > 500
    chosen = sorted(random.Random(0).sample(sources, 200))
    for path in sorted({source.path for source in chosen}):
        some = [source for source in chosen if source.path == path]
        with reading(), rasterio.open(root / path) as dataset:
            form = form_of(root / path)
            for source, found in zip(
                some, read_all(root, some, form, data, lambda found: (found.tile(), found.place())), strict=True
            ):
                tile, place = found
                window = rasterio.windows.Window(*source.window)
                truth = dataset.read(window=window)
                if dataset.nodata is not None:
                    truth[truth == dataset.nodata] = 0 if truth.dtype == np.uint16 else -32768
                assert isinstance(tile, Tile)
                assert np.array_equal(tile.pixels, truth)
                assert place is not None
                assert place[:2] == pytest.approx(dataset.xy(*(first + 31.5 for first in source.window[1::-1])))


def test_windows_of_another_side_are_resized(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", np.full((2, 64, 64), 700, np.uint16))
    found = tiles_of(settings(tmp_path, tile=32, sameness=1), FORM)
    assert {tile.pixels.shape for tile in found.values()} == {(2, 16, 16)}
    assert {int(value) for tile in found.values() for value in np.unique(tile.pixels)} == {700}
    assert kinds(tiles_of(settings(tmp_path, size=32, tile=16, sameness=1), FORM)) == {"smaller than data.size": 16}


def test_packing_keeps_windows_labels_and_places(tmp_path: Path) -> None:
    pixels = {name: values(64, 64, seed=number) for number, name in enumerate(("north/a", "north/b", "south/c"))}
    for name, scene in pixels.items():
        write_scene(tmp_path / "scenes" / f"{name}.tif", scene)
    store = packed(tmp_path, settings(tmp_path / "scenes"))
    assert (store.count, store.classes) == (48, ["north", "south"])
    assert len(set(store.sources)) == 48
    for number, source in enumerate(store.sources):
        assert source.window is not None
        rows, columns = source.window.ends
        truth = pixels[source.path.removesuffix(".tif")][:, slice(*rows), slice(*columns)]
        assert np.array_equal(store.read(torch.tensor([number]))[0].numpy(), truth)
        assert store.classes[int(store.labels[number])] == source.path.partition("/")[0]


def test_a_digest_is_that_of_the_window_alone(tmp_path: Path) -> None:
    """So a change of one window leaves the others packed, and equal windows are one tile."""
    pixels = values(64, 64)
    write_scene(tmp_path / "a.tif", pixels)
    data = settings(tmp_path)

    def digests() -> dict[Source, str]:
        sources = cut(tmp_path, ["a.tif"], data)
        return dict(zip(sources, read_all(tmp_path, sources, FORM, data, lambda found: found.digest()), strict=True))

    before = digests()
    assert len(set(before.values())) == 16
    pixels[:, 20, 20] += 1
    pixels[:, 48:, 48:] = pixels[:, :16, :16]
    write_scene(tmp_path / "a.tif", pixels)
    after = digests()
    changed = {source.window[:2] for source in before if before[source] != after[source] and source.window}
    assert changed == {(16, 16), (48, 48)}
    assert len(set(after.values())) == 15


def test_only_windows_that_changed_are_packed_again(tmp_path: Path) -> None:
    pixels = values(64, 64)
    write_scene(tmp_path / "scenes" / "a.tif", pixels)
    data = settings(tmp_path / "scenes")
    packed(tmp_path, data)
    pixels[:, 20, 20] += 1
    write_scene(tmp_path / "scenes" / "a.tif", pixels, compress="lzw")
    store = packed(tmp_path, data)
    assert store.count == 16
    assert (store.path / "tiles-00000.bin").stat().st_size == 17 * 2 * 256 * 2


def test_a_killed_packing_of_scenes_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_scene(tmp_path / "scenes" / f"{number}.tif", values(64, 64, seed=number))
    data = settings(tmp_path / "scenes", overlap=4)
    monkeypatch.setattr(pack_tiles, "BLOCK_TILES", 20)
    whole = packed(tmp_path, data, "whole")
    append, blocks = packing_journal.PackingJournal.append, iter(range(100))

    def killing(self: packing_journal.PackingJournal, lines: list[Any]) -> None:
        if next(blocks) == 2:
            raise KeyboardInterrupt
        append(self, lines)

    with monkeypatch.context() as patched:
        patched.setattr(packing_journal.PackingJournal, "append", killing)
        with pytest.raises(KeyboardInterrupt):
            packed(tmp_path, data, "killed")
    killed = packed(tmp_path, data, "killed")
    for name in ("tiles-00000.bin", "tiles.safetensors"):
        assert (killed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_other_settings_of_scenes_pack_anew(tmp_path: Path) -> None:
    pixels = values(64, 64)
    pixels[:, :16] = 5
    write_scene(tmp_path / "scenes" / "a.tif", pixels)
    assert packed(tmp_path, settings(tmp_path / "scenes")).count == 12
    run = Run(tmp_path / "run", Recipe(name="run", data=settings(tmp_path / "scenes", sameness=1)))
    run.redo = True
    pack_tiles.pack_tiles(run)
    assert TileStore(plan.tiles(run).path).count == 16


# ---------------------------------------------------------------- what is left out


def partly_empty(root: Path) -> None:
    """16 windows: 4 without data, 3 cloudy by the last band, 2 constant, 7 whole."""
    pixels, mask = values(64, 64), np.zeros((1, 64, 64), np.uint16)
    pixels[:, :16] = 0
    mask[:, 16:32, :48] = 9
    pixels[:, 32:48, :32] = np.array([7, 8], np.uint16)[:, None, None]
    write_scene(root / "a.tif", np.concatenate([pixels, mask]), nodata=0)


def test_windows_that_show_too_little_are_counted_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partly_empty(tmp_path / "scenes")
    data = settings(tmp_path / "scenes", cloud={"band": 3, "values": [8, 9]}, data_bad_files=0.0)
    survey(data)
    checked = capsys.readouterr().out
    store = packed(tmp_path, data)
    for said in (checked, capsys.readouterr().out):
        said = " ".join(said.split())
        assert "4 of 16 windows are left out, as more than 50% of their pixels hold no data (data.nodata)" in said
        assert "3 of 16 windows are left out, as more than 10% of their pixels are cloudy" in said
        assert "2 of 16 windows are left out, as more than 98% of their pixels are as their right neighbours" in said
    assert "unusable windows: none (all 16 windows were read)" in checked
    found = facts(tmp_path, data)
    assert (found["unusable"], found["nodata"], found["cloud"], found["sameness"]) == (0, 4, 3, 2)
    assert (store.count, store.bands) == (7, 2)


def test_the_shares_that_a_window_may_have_are_those_of_the_recipe(tmp_path: Path) -> None:
    partly_empty(tmp_path)
    cloud = {"band": 3, "values": [9], "most": 1.0}
    every = settings(tmp_path, cloud=cloud, sameness=1.0, data_nodata=1.0)
    assert kinds(tiles_of(every, FORM)) == {"tile": 16}
    assert kinds(tiles_of(settings(tmp_path, cloud=cloud, sameness=1.0), FORM)) == {"tile": 12, "nodata": 4}
    assert kinds(tiles_of(settings(tmp_path, cloud={**cloud, "most": 0.99}), FORM)) == {
        "tile": 7, "nodata": 4, "cloud": 3, "sameness": 2,
    }  # fmt: skip


def test_sameness_counts_only_pixels_with_data(tmp_path: Path) -> None:
    """Pixels without data are alike, but say nothing of the others."""
    pixels = values(16, 16)
    pixels[:, :, :7] = 0
    write_scene(tmp_path / "a.tif", pixels, nodata=0, blockxsize=16, blockysize=16)
    assert kinds(tiles_of(settings(tmp_path, sameness=0.1), FORM)) == {"tile": 1}


def test_masks_in_files_beside_the_scenes_are_no_tiles(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scene(tmp_path / f"{name}.tif", values(64, 64))
    mask = np.zeros((1, 64, 64), np.uint16)
    mask[:, :32] = 3
    write_scene(tmp_path / "a_clouds.tif", mask)
    found = tiles_of(settings(tmp_path, cloud={"file": "_clouds.tif", "values": [3]}), FORM)
    assert kinds(found) == {"tile": 8, "cloud": 8, "no cloud mask": 1}
    assert {source.path for source in found} == {"a.tif", "b.tif"}


def test_a_mask_that_changes_is_read_again(tmp_path: Path) -> None:
    write_scene(tmp_path / "scenes" / "a.tif", values(64, 64))
    mask = np.zeros((1, 64, 64), np.uint16)
    write_scene(tmp_path / "scenes" / "a_clouds.tif", mask)
    data = settings(tmp_path / "scenes", cloud={"file": "_clouds.tif", "values": [3]})
    assert packed(tmp_path, data).count == 16
    mask[:, :32] = 3
    write_scene(tmp_path / "scenes" / "a_clouds.tif", mask)
    assert packed(tmp_path, data).count == 8


# ---------------------------------------------------------------- on the ground


def test_scenes_of_two_projections_and_a_turned_one_are_read_in_their_own_pixels(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(32, 32, seed=1))
    degrees = rasterio.Affine(1e-4, 0, 15.0, 0, -1e-4, 49.6)
    write_scene(tmp_path / "b.tif", values(32, 32, seed=2), crs="EPSG:4326", transform=degrees)
    turned = rasterio.Affine(8, 6, 500_000, 6, -8, 5_500_000)
    write_scene(tmp_path / "c.tif", values(32, 32, seed=3), transform=turned)
    data = settings(tmp_path)
    sources = cut(tmp_path, ["a.tif", "b.tif", "c.tif"], data)
    with reading():
        found = dict(
            zip(sources, read_all(tmp_path, sources, FORM, data, lambda f: (f.tile(), f.place())), strict=True)
        )
    for source, (tile, place) in found.items():
        assert source.window is not None
        with rasterio.open(tmp_path / source.path) as dataset:
            assert np.array_equal(tile.pixels, dataset.read(window=source.window.ends))
            assert place.crs == dataset.crs.to_string()
            centre = dataset.xy(source.window.row + 7.5, source.window.column + 7.5)
        assert place[:2] == pytest.approx(centre)
        assert 14.9 < place.longitude < 15.1


def test_scenes_are_brought_to_one_resolution(tmp_path: Path) -> None:
    """The same ground at 10 m, at 20 m, and turned: the tiles show the same."""

    def ground(column: np.ndarray, row: np.ndarray) -> np.ndarray:
        """What lies at so many metres east and south of the corner."""
        return np.stack([3000 + 1000 * np.sin(column / 90), 3000 + 1000 * np.cos(row / 70)]).round().astype(np.uint16)

    centres = np.meshgrid(np.arange(128) * 10 + 5.0, np.arange(128) * 10 + 5.0)
    write_scene(tmp_path / "a.tif", ground(*centres))
    coarse = np.meshgrid(np.arange(64) * 20 + 10.0, np.arange(64) * 20 + 10.0)
    coarser = rasterio.Affine(20, 0, NORTH_UP.c, 0, -20, NORTH_UP.f)
    write_scene(tmp_path / "b.tif", ground(*coarse), transform=coarser)
    flipped = rasterio.Affine(0, 10, NORTH_UP.c, -10, 0, NORTH_UP.f)
    write_scene(tmp_path / "c.tif", ground(*centres).transpose(0, 2, 1), transform=flipped)
    found = tiles_of(settings(tmp_path, metres=10), FORM)
    assert kinds(found) == {"tile": 3 * 64}
    for source, tile in found.items():
        truth = found[source._replace(path="a.tif")]
        inner = (slice(None), slice(2, -2), slice(2, -2))
        assert np.abs(tile.pixels[inner].astype(int) - truth.pixels[inner]).max() < (
            25 if source.path == "b.tif" else 1
        )
    with rasterio.open(tmp_path / "a.tif") as dataset:
        window = next(source.window for source in found if source.path == "a.tif" and source.window)
        assert np.array_equal(found[Source("a.tif", window)].pixels, dataset.read(window=window.ends))


def test_nodata_beside_a_resampled_scene_is_left_out(tmp_path: Path) -> None:
    """A scene turned by 45 degrees fills half of the square around it."""
    turned = rasterio.Affine(7.0710678, 7.0710678, NORTH_UP.c, 7.0710678, -7.0710678, NORTH_UP.f)
    write_scene(tmp_path / "a.tif", values(256, 256), transform=turned)
    found = kinds(tiles_of(settings(tmp_path, metres=10), FORM))
    assert found.total() == 22 * 22
    assert found["tile"] / found.total() == pytest.approx(0.5, abs=0.07)
    assert set(found) == {"tile", "nodata"}


def test_a_scene_without_coordinates_cannot_be_resampled(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", values(32, 32), crs=None)
    assert kinds(tiles_of(settings(tmp_path, metres=10), FORM)) == {"no coordinates": 1}


# ---------------------------------------------------------------- refusals


def test_too_many_scenes_that_cannot_be_cut_end_the_packing(tmp_path: Path) -> None:
    """They are few among windows, but many among scenes."""
    for number in range(3):
        write_scene(tmp_path / "scenes" / f"{number}.tif", values(128, 128, seed=number))
    for number in range(2):
        (tmp_path / "scenes" / f"bad{number}.tif").write_bytes(b"II*\0 but no raster")
    data = settings(tmp_path / "scenes")
    with pytest.raises(UserError, match=r"2 of 5 scenes cannot be cut \(2 truncated or damaged\)"):
        packed(tmp_path, data)
    assert packed(tmp_path, settings(tmp_path / "scenes", data_bad_files=0.4)).count == 192


def test_wrong_settings_are_refused_by_name(tmp_path: Path) -> None:
    for scenes, reason in (
        ({"overlap": 16}, r"overlap 16 must be less than a window, which has 16 px"),
        ({"cloud": {"values": [1]}}, "cloud needs band or file"),
        ({"cloud": {"values": [1], "file": "../x.tif"}}, "the end of a file's name"),
        ({"metres": 0.0}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=reason):
            settings(tmp_path, **scenes)


def test_pixels_of_a_scene_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a window: 400 windows take a read or two."""
    write_scene(tmp_path / "a.tif", values(320, 320))
    calls: list[tuple[int, int]] = []
    real = read_windows.read_raster
    monkeypatch.setattr(read_windows, "read_raster", lambda *given: calls.append(given[1][2:]) or real(*given))
    found = tiles_of(settings(tmp_path), FORM)
    assert (len(found), sum(width * height for width, height in calls)) == (400, 320 * 320)
    assert len(calls) == 1
    assert len({hashlib.md5(tile.pixels.tobytes()).digest() for tile in found.values()}) == 400
