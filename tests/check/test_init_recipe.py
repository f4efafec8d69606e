"""The recipe that init writes: it fits what lies there, runs without an edit, and says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from collected_images import files_below, parquet, png, zipped
from drawn_imagery import draw
from PIL import Image
from rasterio import Affine
from small_images import tiff

from gcl_custom.check import init_recipe, step_costs
from gcl_custom.check.step_costs import Cost, Costs, TokenCosts
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import INDEX, TileStore
from gcl_custom.pretraining.suitable import require_suitable
from gcl_custom.recipe.file import load_card, load_recipe
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of a training takes a second, and all else next to nothing."""

    def measured(recipe: Recipe, *_: object) -> Costs:
        step, quick = Cost(1.0, 10**6 * recipe.pretrain.batch, 1000), Cost(1e-6, 10**6, 1000)
        return Costs(TokenCosts(step, step, step, quick, quick), step, quick, quick, quick, (quick, 8))

    monkeypatch.setattr(init_recipe, "measure", measured)
    monkeypatch.setattr(init_recipe, "free_memory", lambda: 10**12)


def written(folder: Path, minutes: float | None = None) -> tuple[Recipe, str]:
    out = folder.parent / "mine.yaml"
    init_recipe.init_recipe(folder, out, minutes, overwrite=True)
    return load_recipe(out), out.read_text()


def flat(root: Path) -> None:
    root.mkdir()
    for number in range(24):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            root / f"{number}.jpg"
        )


def single_band(root: Path) -> None:
    root.mkdir()
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 60000, (1, 32, 32)).astype(np.uint16)
        tiff(root / f"{number}.tif", pixels)


@pytest.mark.usefixtures("priced")
def test_one_epoch_and_one_class_are_told_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat(tmp_path / "tiles")
    names = "".join(f"{number}.jpg,a\n" for number in range(24))
    (tmp_path / "tiles" / "labels.csv").write_text(f"file,labels\n{names}")
    _, text = written(tmp_path / "tiles", minutes=0.01)
    assert "# 24 tiles of 1 class (a), 24 labelled" in text
    assert "mine.yaml: 1 epoch of tiles" in " ".join(capsys.readouterr().out.split())


def kaggle(root: Path) -> None:
    for split, each in (("train", 8), ("valid", 2), ("test", 2)):
        draw(root / split, bands=3, each=each, size=40)


def floats(root: Path) -> None:
    root.mkdir()
    for number in range(24):
        tiff(root / f"{number}.tif", np.random.default_rng(number).random((2, 32, 32)).astype(np.float32))


def scenes(root: Path) -> None:
    root.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(1, 9000, (4, 260, 330)).astype(np.uint16)
        tiff(
            root / f"{number}.tif", pixels, crs="EPSG:32633", transform=Affine(10, 0, 5e5 + 9000 * number, 0, -10, 5e6)
        )


def with_masks(root: Path) -> None:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray((pixels[..., 0] > 99).astype(np.uint8)).save(root / "masks" / f"{number}.png")


def few_small_scenes(root: Path) -> None:
    """Two years of Landsat: barely four tiles wide, with bands that are named in one file alone, a mask among them, and
    a raster of classes beside them."""
    root.mkdir()
    names = [f"band {number} reflectance" for number in (1, 2, 3, 4, 5, 7)]
    placed = {"crs": "EPSG:32615", "transform": Affine(30, 0, 5e5, 0, -30, 3e6)}
    for year, called in ((1999, names), (2002, [*names, "mask"])):
        pixels = np.random.default_rng(year).integers(1, 9000, (7, 250, 250)).astype(np.int16)
        pixels[6] %= 3
        tiff(root / f"{year}.tif", pixels, **placed)
        with rasterio.open(root / f"{year}.tif", "r+") as scene:
            for number, name in enumerate(called, start=1):
                scene.set_band_description(number, name)
    rows = np.repeat(np.arange(3, dtype=np.uint8), [70, 60, 120])
    tiff(root / "cover.tif", np.broadcast_to(rows[None, :, None], (1, 250, 250)), **placed)


def splits_alone(root: Path) -> None:
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        (root / "pictures" / split).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(100 * count + number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pictures" / split / f"{number}.png")


def named_bands(root: Path) -> None:
    """GeoTIFFs that name their bands, in class folders below a lone one, one of them deeper, others unlabelled."""
    places = [*(f"top/{name}/{number}" for name in ("wet", "dry") for number in range(10)), "top/wet/deeper/0"]
    for place in (*places, "top/unlabelled/0", "top/unlabelled/1", "top/unlabelled/2"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(place)).integers(0, 9000, (4, 32, 32)).astype(np.uint16)
        tiff(root / f"{place}.tif", pixels + len(list(root.rglob("*.tif"))), crs="EPSG:32633",
             transform=Affine(10, 0, 5e5, 0, -10, 5e6))  # fmt: skip
        with rasterio.open(root / f"{place}.tif", "r+") as file:
            for number, name in enumerate(("blue", "green", "red", "nir"), start=1):
                file.set_band_description(number, name)


def scenes_with_polygons(root: Path) -> None:
    scenes(root)
    at = rasterio.warp.transform_geom
    halves = [(5e5, "west"), (5e5 + 1650, "east"), (5e5 + 9000, "west"), (5e5 + 10650, "east")]
    features = [
        {
            "type": "Feature",
            "properties": {"class": name},
            "geometry": at("EPSG:32633", "EPSG:4326", {"type": "Polygon", "coordinates": [
                [(x, 5e6), (x + 1650, 5e6), (x + 1650, 5e6 - 2600), (x, 5e6 - 2600), (x, 5e6)]
            ]}),
        }
        for x, name in halves
    ]  # fmt: skip
    (root / "cover.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


LAYOUTS: dict[str, tuple[Callable[[Path], object], str, int, list[str]]] = {
    "kaggle": (kaggle, "small-rgb", 40, ["36 tiles of 3 classes", "the one that the folders give", "uint8"]),
    "flat": (flat, "small-rgb", 40, ["24 tiles without labels", "labels: FILE.csv"]),
    "classes": (lambda root: draw(root, 3, 8, 72), "small-rgb", 64, ["3 classes (field, forest, lake)", "at random"]),
    "bands": (lambda root: draw(root, 4, 8, 50), "small-bands", 48, ["4 bands of uint16", "bands: [blue, green, red"]),
    "floats": (floats, "small-bands", 32, ["2 bands of float32", "percentiles of each band"]),
    "masks": (with_masks, "small-rgb", 40, ["24 tiles of 2 classes (0, 1, one a pixel in masks), 24 labelled"]),
    "scenes": (scenes, "small-bands", 64, ["cut into windows", "scenes: {tile: 64, overlap: 0}", "4 bands of uint16"]),
    "few small scenes": (
        few_small_scenes,
        "small-bands",
        64,
        ["of 3 classes (0, 1, 2)", "cut into windows", "labels: cover.tif", "without band 7", "quicklook: [3, 2, 1]"],
    ),
    "splits alone": (splits_alone, "small-rgb", 32, ["24 tiles without labels", "the one that the folders give"]),
    "named bands": (named_bands, "small-bands", 32, ["2 classes (dry, wet)", "4 bands of uint16, called blue, green"]),
    "scenes with polygons": (scenes_with_polygons, "small-bands", 64, ["labels: cover.geojson", "2 classes (east, we"]),
    "single band of 16 bits": (single_band, "small-bands", 32, ["1 band of uint16", "percentiles of each band"]),
}
"""Layout -> how it is made, the recipe and the size that fit, and what the reasons say."""


def packed(run: Run) -> dict[str, bytes | object]:
    """The packed tiles, labels, bands and splits; the settings' digest and that of the card are left out."""
    stage = plan.tiles(run)
    files = {path.name: path.read_bytes() for path in stage.path.iterdir() if path.suffix != ".json"}
    assert files
    return {**files, "index": (stage.path / INDEX).read_bytes(), "facts": stage.facts}


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_recipe_fits_the_folder_and_packs_it(layout: str, tmp_path: Path) -> None:
    """With the card and without it, the tiles, labels, bands and splits are the same."""
    make, kind, size, said = LAYOUTS[layout]
    make(tmp_path / "tiles")
    recipe, text = written(tmp_path / "tiles")
    assert (recipe.data.size, recipe.pretrain.continues) == (size, kind == "small-rgb")
    for words in said:
        assert words in " ".join(text.replace("#", " ").split())
    run = Run(tmp_path / "runs" / "mine", recipe)
    pack_tiles.pack_tiles(run)
    require_suitable(run)
    store = TileStore(plan.tiles(run).path)
    plain = Run(tmp_path / "runs" / "plain", load_recipe(tmp_path / "mine.yaml", ["data.card=null"]))
    pack_tiles.pack_tiles(plain)
    assert packed(run) == packed(plain)
    if recipe.data.scenes:
        assert len(store) == 2 * 3 * 3 if layout == "few small scenes" else 2 * 4 * 5
        return
    assert len(store) == len(list((tmp_path / "tiles").rglob("*.*"))) - len(list((tmp_path / "tiles").glob("masks/*")))


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize("form", ["zip", "parquet", "npz"])
def test_a_collection_gets_a_recipe_as_its_folder_does(form: str, tmp_path: Path) -> None:
    draw(tmp_path / "tiles", 3, 8, 40)
    files = files_below(tmp_path / "tiles")
    labels = [name.split("/")[0] for name in files]
    root = tmp_path / f"tiles.{form}"
    if form == "zip":
        zipped(root, files)
    elif form == "parquet":
        parquet(root, list(files.values()), labels)
    else:
        np.savez(
            root, images=np.stack([np.asarray(Image.open(tmp_path / "tiles" / name)) for name in files]), labels=labels
        )
    recipe, text = written(root)
    assert written(tmp_path / "tiles")[0].model_copy(update={"data": recipe.data}) == recipe
    assert "24 tiles of 3 classes (field, forest, lake), 24 labelled" in text
    run = Run(tmp_path / "runs" / "mine", recipe)
    pack_tiles.pack_tiles(run)
    assert TileStore(plan.tiles(run).path).classes == ["field", "forest", "lake"]


@pytest.mark.usefixtures("priced")
def test_minutes_buy_epochs_within_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """18 training tiles are one step of each training, so an epoch of the three takes three seconds."""
    draw(tmp_path / "tiles", 4, 8, 32)
    usual, text = written(tmp_path / "tiles")
    assert "the steps of the shipped recipe, for 18 training tiles" in text
    few, text = written(tmp_path / "tiles", minutes=2.0)
    assert few.pretrain.epochs < usual.pretrain.epochs
    assert few.tokens.tokenizer.epochs < usual.tokens.tokenizer.epochs
    assert "as many as 2 minutes allow" in text
    more, _ = written(tmp_path / "tiles", minutes=5.0)
    assert few.pretrain.epochs < more.pretrain.epochs
    most, text = written(tmp_path / "tiles", minutes=1e4)
    assert most.pretrain.epochs == init_recipe.MOST_TIMES * usual.pretrain.epochs
    assert "takes less than wanted" in text
    capsys.readouterr()
    least, _ = written(tmp_path / "tiles", minutes=0.02)
    assert (least.pretrain.epochs, least.tokens.maskgit.epochs) == (1, 1)
    assert "even one epoch of each training" in capsys.readouterr().out


def test_a_comparison_that_would_take_half_of_the_time_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the supervised baseline and of fine-tuning takes a second, the rest nothing."""
    slow, quick = Cost(1.0, 10**6, 1000), Cost(1e-6, 10**6, 1000)
    costs = Costs(TokenCosts(quick, quick, quick, quick, quick), quick, slow, quick, quick)
    monkeypatch.setattr(init_recipe, "measure", lambda *_: costs)
    draw(tmp_path / "tiles", 4, 8, 32)
    assert written(tmp_path / "tiles", minutes=1e4)[0].compare == load_recipe("small-bands").compare
    recipe, text = written(tmp_path / "tiles", minutes=1.0)
    assert recipe.compare.fractions == []
    assert "supervised" not in recipe.compare.arms
    assert "would take" in text


@pytest.mark.usefixtures("priced")
def test_batches_are_halved_until_a_step_fits_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "tiles", 3, 8, 32)
    usual, _ = written(tmp_path / "tiles")
    monkeypatch.setattr(init_recipe, "free_memory", lambda: 10**8)
    less, text = written(tmp_path / "tiles")
    assert usual.pretrain.batch == 128
    assert less.pretrain.batch == 32
    assert "32 MB at most, and 100 MB are free (halved for that)" in text
    monkeypatch.setattr(init_recipe, "free_memory", lambda: 10)
    assert written(tmp_path / "tiles")[0].pretrain.batch == init_recipe.SMALLEST_BATCH
    assert "there may be too little memory" in capsys.readouterr().out


@pytest.mark.usefixtures("priced")
def test_a_file_is_only_replaced_if_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "tiles", 3, 8, 32)
    monkeypatch.chdir(tmp_path)
    init_recipe.init_recipe(Path("tiles"), None, None, overwrite=False)
    before = Path("tiles.yaml").read_text()
    assert load_recipe("tiles.yaml").name == "tiles"
    assert load_recipe("tiles.yaml").data.card == "tiles.card.yaml"
    assert load_card("tiles.card.yaml").licence == "not stated"
    with pytest.raises(UserError, match=r"tiles\.yaml exists already\. Add --overwrite"):
        init_recipe.init_recipe(Path("tiles"), None, 1.0, overwrite=False)
    assert Path("tiles.yaml").read_text() == before
    with pytest.raises(UserError, match=r"a recipe is a \.yaml file"):
        init_recipe.init_recipe(Path("tiles"), Path("mine.txt"), None, overwrite=False)
    shutil.rmtree("tiles")
    with pytest.raises(UserError, match="there is no folder tiles"):
        init_recipe.init_recipe(Path("tiles"), Path("other.yaml"), None, overwrite=False)
    assert not Path("other.yaml").exists()


@pytest.mark.usefixtures("priced")
def test_a_card_that_is_there_stays_and_says_how_the_images_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "tiles", 3, 8, 32)
    card = tmp_path / "mine.card.yaml"
    text = "name: c\ntitle: t\nsource: mine\nlicence: CC0\nclasses: [lake, field]\n"
    card.write_text(text)
    recipe, said = written(tmp_path / "tiles")
    assert card.read_text() == text
    assert recipe.data.card == str(card)
    assert "2 classes (lake, field), 16 labelled" in said
    assert "your card, as it was" in said
    card.write_text("name: c\n")
    with pytest.raises(UserError, match="licence: missing"):
        written(tmp_path / "tiles")


def test_steps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without made-up costs, as a reader types it."""
    monkeypatch.setattr(step_costs, "REPEATS", 1)
    (tmp_path / "tiles").mkdir()
    for number in range(24):
        (tmp_path / "tiles" / f"{number}.png").write_bytes(png(number, 16))
    recipe, text = written(tmp_path / "tiles", minutes=0.5)
    assert recipe.data.size == 16
    assert "minutes allow for" in text or "enough for" in text
    assert init_recipe.free_memory() > 10**7
