"""Bands and values from the files to the store: floats, what is no measurement, the choice of bands, given edges."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window as RasterWindow

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.export.transform import Transform
from gcl_custom.imagery.decoding import Form, Unusable, decode, form_of, reading, tile_from
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.source import Window
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.imagery.values.bands import with_bands
from gcl_custom.imagery.values.forms import missing
from gcl_custom.recipe.imagery import DataSettings, ScalingSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

NAMES = ("B2", "B3", "B4", "B8")
LOWEST = np.float32(missing("float32"))


def raster(path: Path, values: np.ndarray, names: tuple[str, ...] | None = NAMES, **options: object) -> Path:
    bands, height, width = values.shape
    about = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": values.dtype}
    path.parent.mkdir(exist_ok=True)
    with reading(), rasterio.open(path, "w", **about, **options) as target:
        target.write(values)
        target.descriptions = names or (None,) * bands
    return path


def reflectance(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).uniform(0.01, 0.5, (4, side, side)).astype(np.float32)


def run_on(root: Path, name: str = "run", **data: object) -> Run:
    return Run(root.parent / name, Recipe(name="run", data=DataSettings(root=str(root), size=16, **data)))


def packed(run: Run) -> TileStore:
    pack_tiles(run)
    return TileStore(plan.tiles(run).path)


def stored(store: TileStore) -> dict[str, np.ndarray]:
    return {source.path: store.read(torch.tensor([n]))[0].numpy() for n, source in enumerate(store.sources)}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Ten tiles of float32: a NaN block, infinities, nodata -9999, one band of NaN, and six without a fault."""
    tiles = [reflectance(number) for number in range(10)]
    tiles[0][:, 2:6, 3:7] = np.nan
    tiles[1][0, 0, 0], tiles[1][1, 1, 1] = np.inf, -np.inf
    tiles[2][:, 12:] = -9999
    tiles[2][3, 0, 0] = -9999
    tiles[3][2] = np.nan
    for number, values in enumerate(tiles):
        raster(tmp_path / "root" / f"{number}.tif", values, nodata=-9999)
    return tmp_path / "root"


def test_what_is_no_measurement_is_masked_filled_and_counted_and_reaches_no_loss(
    faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_on(faulty)
    survey(run.recipe.data)
    said = capsys.readouterr().out
    store = packed(run)
    told = capsys.readouterr().out
    tiles = stored(store)
    assert (store.dtype, store.bands, store.form.names) == ("float32", 4, NAMES)
    expected = {f"{number}.tif": reflectance(number) for number in range(10)}
    expected["0.tif"][:, 2:6, 3:7] = expected["2.tif"][:, 12:] = expected["3.tif"][2] = LOWEST
    expected["1.tif"][0, 0, 0] = expected["1.tif"][1, 1, 1] = expected["2.tif"][3, 0, 0] = LOWEST
    for name, values in expected.items():
        assert np.array_equal(tiles[name], values), name
    count = sum(int((values == LOWEST).sum()) for values in expected.values())
    share = count / (10 * 4 * 256)
    assert plan.tiles(run).facts["values_without_data"] == pytest.approx(share)
    for text in (said, told):
        assert f"4 of 10 tiles have values without data (nodata, NaN or infinite), {100 * share:.2g} % of all" in text
        assert "bands without any data: B4 in 1 of 10 tiles" in text
    unit = store.unit(store.read(torch.arange(10)))
    assert unit.isfinite().all()
    for number, source in enumerate(store.sources):
        assert not unit[number][torch.from_numpy(expected[source.path] == LOWEST)].any()
    assert 0.009 < store.low.min() <= store.low.max() < 0.02
    assert 0.48 < store.high.min() <= store.high.max() < 0.51
    assert all(moment.isfinite().all() for moment in store.moments)
    views = store.raw(unit)
    assert views.dtype == torch.float32
    assert torch.equal(store.unit(views) > 0, unit > 0)
    torch.testing.assert_close(store.unit(views), unit)


def test_a_file_of_nan_alone_is_left_out_as_nodata_is(tmp_path: Path) -> None:
    for number in range(10):
        raster(tmp_path / "root" / f"{number}.tif", reflectance(number))
    raster(tmp_path / "root" / "none.tif", np.full((4, 16, 16), np.nan, dtype=np.float32))
    run = run_on(tmp_path / "root")
    assert packed(run).count == 10
    assert (plan.tiles(run).facts["nodata"], plan.tiles(run).facts["unusable"]) == (1, 0)


def test_shrinking_averages_only_what_holds_data(tmp_path: Path) -> None:
    values = np.full((2, 32, 32), 0.25, dtype=np.float64)
    values[0, :, :8], values[1, :16, :16] = np.nan, -np.inf
    with reading():
        data = raster(tmp_path / "a.tif", values, None).read_bytes()
        assert form_of(tmp_path / "a.tif") == Form(2, "float32")
        tile = tile_from(data, Form(2, "float32"), 16, False, 0.5)
    assert tile.pixels.dtype == np.float32
    assert set(np.unique(tile.pixels)) == {LOWEST, np.float32(0.25)}
    assert tile.lacking == (0.25, 0.25)
    assert tile.nodata == pytest.approx(4 * 8 / 256)


@pytest.mark.parametrize("use", [[4, 3, 1], ["B8", "B4", "B2"], ["b8", 3, 1]])
def test_chosen_bands_are_read_in_their_order_everywhere(use: list[int | str], tmp_path: Path) -> None:
    """Packing, check, the transform of a file and of an array; the digest is that of the whole file."""
    root = tmp_path / "root"
    files = {f"{number}.tif": reflectance(number) for number in range(8)}
    for name, values in files.items():
        raster(root / name, values)
    run = run_on(root, use_bands=use, quicklook=[4])
    store, found = packed(run), survey(run.recipe.data)
    assert (store.bands, store.form.names, store.rgb) == (3, ("B8", "B4", "B2"), False)
    assert found.form == store.form
    transform = Transform.of(store, run.recipe.data)
    for number, (name, tile) in enumerate(stored(store).items()):
        assert np.array_equal(tile, files[name][[3, 2, 0]])
        unit = store.unit(store.read(torch.tensor([number])))[0]
        assert torch.equal(transform(root / name), unit)
        assert torch.equal(transform(files[name]), unit)
        assert torch.equal(transform(files[name].transpose(1, 2, 0).astype(np.float64)), unit)
    assert store.quicklook(["B4", 4, 1]).bands == [1, 0, 2]
    lines = (plan.tiles(run).path / "packing.jsonl").read_text().splitlines()
    every = run_on(root, "every")
    packed(every)
    others = (plan.tiles(every).path / "packing.jsonl").read_text().splitlines()
    assert [json.loads(line)[3] for line in lines[1:]] == [json.loads(line)[3] for line in others[1:]]


def test_chosen_by_the_names_in_files_a_file_that_names_them_otherwise_is_no_tile(tmp_path: Path) -> None:
    """By number, or with names in the recipe, the place in the file counts."""
    root = tmp_path / "root"
    raster(root / "swapped.tif", reflectance(0), ("B3", "B2", "B4", "B8"))
    raster(root / "nameless.tif", reflectance(1), None)
    raster(root / "fewer.tif", reflectance(2)[:3], NAMES[:3])
    form = with_bands(Form(4, "float32"), None, NAMES, ["B8", "B2"])
    reasons = {
        "swapped.tif": r"names of bands \(B3 where others have B2; .*data\.bands",
        "nameless.tif": r"names of bands \(none in this file",
        "fewer.tif": r"number of bands \(3, the data set has 4",
    }
    with reading():
        for name, reason in reasons.items():
            with pytest.raises(Unusable, match=reason):
                decode((root / name).read_bytes(), form=form)
        by_number = with_bands(Form(4, "float32"), None, NAMES, [4, 1])
        assert np.array_equal(
            decode((root / "swapped.tif").read_bytes(), form=by_number).pixels, reflectance(0)[[3, 0]]
        )


def test_names_count_if_all_files_agree_on_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(6):
        raster(root / f"{number}.tif", reflectance(number), NAMES if number else ("B2", "B3", "B4", None))
    assert packed(run_on(root)).form.names is None
    with pytest.raises(UserError, match=r"data\.use_bands: 'B8' is a name, and nothing names the 4 bands"):
        survey(run_on(root, use_bands=["B8"]).recipe.data)
    named = packed(run_on(root, "named", bands=["blue", "green", "red", "nir"], use_bands=["red", "green", "blue"]))
    assert (named.rgb, named.form.numbers) == (True, (3, 2, 1))
    assert np.array_equal(stored(named)["0.tif"], reflectance(0)[[2, 1, 0]])


def test_bands_of_photographs_are_chosen_too(tmp_path: Path) -> None:
    from small_images import class_folders

    root = class_folders(tmp_path / "root", 10)
    whole, red, swapped = (
        stored(packed(run_on(root, name, use_bands=use)))
        for name, use in (("all", None), ("red", ["red"]), ("swapped", [3, 2, 1]))
    )
    for name, pixels in whole.items():
        assert np.array_equal(red[name], pixels[:1])
        assert np.array_equal(swapped[name], pixels[::-1])


def test_given_edges_are_kept_and_another_choice_is_another_packing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(6):
        raster(root / f"{number}.tif", reflectance(number))
    store = packed(run_on(root, scaling=ScalingSettings(low=0.0, high=[0.1, 0.2, 0.4, 1.0])))
    assert (store.low.tolist(), store.high.tolist()) == ([0] * 4, pytest.approx([0.1, 0.2, 0.4, 1.0]))
    unit = store.unit(store.read(torch.tensor([0])))[0]
    expected = (stored(store)["0.tif"] / np.array([0.1, 0.2, 0.4, 1.0])[:, None, None]).clip(0, 1)
    np.testing.assert_allclose(unit.numpy(), expected, atol=1e-6)
    with pytest.raises(UserError, match=r"data\.use_bands: None -> .*--redo"):
        pack_tiles(run_on(root, use_bands=[1], scaling=ScalingSettings(low=0.0, high=1.0)))
    pack_tiles(run_on(root, quicklook=[1], scaling=ScalingSettings(low=0.0, high=[0.1, 0.2, 0.4, 1.0])))


def test_pictures_stretch_what_training_tiles_show_and_keep_colours_of_eight_bits(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(6):
        values = reflectance(number)
        values[:, :8] = -9999
        values[3] = 0.25  # constant
        raster(root / f"{number}.tif", values, nodata=-9999)
    store = packed(run_on(root, nodata=0.9))
    look = store.quicklook([3, 2, 4])
    assert look.bands == [2, 1, 3]
    train = store.unit(store.read(store.index("train")))[:, :, 8:]
    for place, (band, low, high) in enumerate(zip(*look, strict=True)):
        if place < 2:
            wanted = np.percentile(train[:, band].numpy(), [2, 98])
            np.testing.assert_allclose([low, high], wanted, atol=1e-3)
    assert look.of(train).isfinite().all()
    colours = np.random.default_rng(0).integers(50, 90, (3, 16, 16)).astype(np.uint8)
    for number in range(6):
        raster(tmp_path / "colours" / f"{number}.tif", colours, None)
    plain = packed(run_on(tmp_path / "colours", "plain")).quicklook(None)
    assert plain == ([0, 1, 2], [0] * 3, [1] * 3)


CHOICES = {
    "sen1floods11__Spain_7370579_S2Hand.tif": ["B8", "B4", "B3", "B12"],
    "rio_tiler__mosaic_cog1.tif": [3, 1],
    "open_geo_tutorial__LE70220492002106EDC00_stack.tif": ["band 4 reflectance", 3, "Band 8"],
}


@pytest.mark.parametrize("name", CHOICES)
def test_windows_of_real_rasters_hold_the_values_that_rasterio_reads(name: str, real_data: Path) -> None:
    path, rng = real_data / "geotiff" / name, np.random.default_rng(0)
    with reading(), rasterio.open(path) as dataset:
        own = tuple(text or str(band) for band, text in enumerate(dataset.descriptions, 1))
        form = with_bands(
            form_of(path)._replace(names=None), None, own if any(dataset.descriptions) else None, CHOICES[name]
        )
        data = path.read_bytes()
        for _ in range(70):
            column, row = (int(rng.integers(0, side - 64)) for side in (dataset.width, dataset.height))
            tile = tile_from(data, form, 64, False, 1.0, Window(column, row, 64, 64))
            window = RasterWindow(column, row, 64, 64)
            theirs = dataset.read(list(form.numbers), window=window)
            held = dataset.read_masks(list(form.numbers), window=window).any(0)
            assert np.array_equal(tile.pixels, np.where(held, theirs, missing(form.dtype)))
