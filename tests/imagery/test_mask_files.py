import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import tiff

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.decoding import Form, Picture, Unusable, reading, tile_of
from gcl_custom.imagery.folders import layout_of
from gcl_custom.imagery.mask_files import Mask, decode_mask, fitted, read_labels, size_of
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def numbers(seed: int = 0, classes: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)


def pairs(root: Path, count: int = 12, values: tuple[int, ...] = (0, 1), side: int = 24) -> Path:
    """Pictures with a bright block on the dark ground, and masks of the block; the last one has no mask."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        top, left = rng.integers(0, side - 8, 2)
        block = np.zeros((side, side), dtype=bool)
        block[top : top + 8, left : left + 8] = True
        picture = np.where(block[..., None], 200, 30) + rng.integers(0, 20, (side, side, 3))
        Image.fromarray(picture.astype(np.uint8)).save(root / "images" / f"{number:02d}.png")
        if number < count - 1:
            mask = np.array(values, dtype=np.uint8)[block.astype(int)]
            Image.fromarray(mask).save(root / "masks" / f"{number:02d}.png")
    return root


def packed(folder: Path, root: Path, **data: object) -> TileStore:
    run = Run(folder / "run", Recipe(name="run", data=DataSettings(root=str(root), size=16, **data)))
    pack_tiles.pack_tiles(run)
    return TileStore(plan.tiles(run).path)


# ---------------------------------------------------------------- one file


def test_numbers_are_read_from_every_form_of_file(tmp_path: Path) -> None:
    truth = numbers()
    grey, palette = Image.fromarray(truth), Image.fromarray(truth, mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    images = {"grey": grey, "palette": palette, "colours": grey.convert("RGB"), "alpha": grey.convert("LA")}
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(decode_mask((tmp_path / f"{name}.png").read_bytes()).values, truth), name
    Image.fromarray(truth > 0).save(tmp_path / "bits.png")
    assert np.array_equal(decode_mask((tmp_path / "bits.png").read_bytes()).values, truth > 0)
    Image.fromarray(truth.astype(np.uint16)).save(tmp_path / "deep.png")
    with reading():
        assert np.array_equal(decode_mask((tmp_path / "deep.png").read_bytes()).values, truth)
        for dtype in (np.uint8, np.uint16, np.int16, np.int32, np.float32):
            assert np.array_equal(decode_mask(tiff(tmp_path / "1.tif", truth[None].astype(dtype))).values, truth)


def test_pixels_of_no_class_become_255(tmp_path: Path) -> None:
    values = np.array([[0, 1, -1], [255, 3, 0]], dtype=np.int16)
    with reading():
        plain = decode_mask(tiff(tmp_path / "1.tif", values[None]))
        without = decode_mask(tiff(tmp_path / "2.tif", values[None], nodata=3))
        holes = decode_mask(tiff(tmp_path / "3.tif", np.where(values < 0, np.nan, values)[None].astype(np.float32)))
        assert not decode_mask(tiff(tmp_path / "4.tif", np.abs(values[None]))).hidden
        endless = decode_mask(tiff(tmp_path / "5.tif", np.where(values < 0, np.inf, values)[None].astype(np.float32)))
    assert plain.values.tolist() == [[0, 1, 255], [255, 3, 0]]
    assert without.values.tolist() == [[0, 1, 255], [255, 255, 0]]
    assert plain.hidden
    assert holes.values.tolist() == endless.values.tolist() == plain.values.tolist()


@pytest.mark.parametrize(
    ("values", "suffix", "kind"),
    [
        (np.ones((8, 8, 3)) * np.arange(3), "png", "colours"),
        (np.zeros((8, 8)), "jpg", "no PNG or TIFF"),
        (np.full((1, 8, 8), 300, dtype=np.int16), "tif", "class number"),
        (np.full((1, 8, 8), 0.5, dtype=np.float32), "tif", "type of values"),
    ],
)
def test_what_is_no_mask_says_why(tmp_path: Path, values: np.ndarray, suffix: str, kind: str) -> None:
    path = tmp_path / f"1.{suffix}"
    if suffix == "tif":
        tiff(path, values)
    else:
        Image.fromarray(values.astype(np.uint8)).save(path)
    with reading(), pytest.raises(Unusable) as refused:
        decode_mask(path.read_bytes())
    assert refused.value.kind == kind
    for damaged in (path.read_bytes()[:60], b"no image"):
        with reading(), pytest.raises(Unusable):
            decode_mask(damaged)


@pytest.mark.parametrize("orientation", [1, 6])
def test_sizes_are_those_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    image = Image.fromarray(numbers())
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "1.jpg", exif=exif)
    assert size_of((tmp_path / "1.jpg").read_bytes()) == ((30, 20) if orientation == 1 else (20, 30))
    with reading():
        assert size_of(tiff(tmp_path / "1.tif", numbers()[None])) == (30, 20)


@pytest.mark.parametrize("size", [16, 13, 20, 37])
@pytest.mark.parametrize("shape", [(20, 30), (64, 33), (20, 20)])
def test_a_mask_lies_on_the_pixels_of_its_tile(shape: tuple[int, int], size: int) -> None:
    """Where the tile is brighter than halfway between ground and block, the mask is of the block, but for edges."""
    height, width = shape
    block = np.zeros(shape, dtype=np.uint8)
    block[height // 3 : height // 3 + 9, width // 2 - 4 : width // 2 + 6] = 1
    tile = tile_of(Picture(block[None] * 200, None, alpha=False), Form(1, "uint8"), size, upscale=True, nodata=1.0)
    mask = fitted(block, size)
    assert mask.shape == (size, size)
    bright = tile.pixels[0] > 100
    differ = bright != mask.astype(bool)
    assert differ.sum() <= 0.15 * mask.sum()
    certain = (tile.pixels[0] < 20) | (tile.pixels[0] > 180)
    assert not (differ & certain).any()
    # A shift by one pixel would be seen.
    assert (bright[:, 1:] != mask[:, :-1].astype(bool)).sum() > differ.sum()


# ---------------------------------------------------------------- all files


def test_packed_masks_are_those_of_the_files_beside_the_tiles(tmp_path: Path) -> None:
    store = packed(tmp_path, pairs(tmp_path / "root"), mask_classes=["ground", "block"])
    assert (store.kind.measure, store.classes) == ("mIoU", ["ground", "block"])
    assert store.has_label.tolist() == [True] * 11 + [False]
    masks = store.targets(torch.arange(12))
    assert masks.dtype == torch.uint8
    bright = store.unit(store.read(torch.arange(12))).mean(1) > 0.45
    assert ((masks == 1) == bright)[:11].float().mean() > 0.97
    assert (masks[11] == 255).all()
    assert torch.equal(store.labels, torch.stack([(masks == label).sum((1, 2)) for label in (0, 1)], dim=1))


def test_values_without_names_are_classes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = packed(tmp_path, pairs(tmp_path / "root", values=(7, 40)))
    assert store.classes == ["7", "40"]
    assert set(store.targets(torch.arange(11)).unique().tolist()) == {0, 1}
    assert "255" not in capsys.readouterr().out


def test_black_and_white_masks_have_two_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = packed(tmp_path, pairs(tmp_path / "root", values=(0, 255)))
    assert store.classes == ["0", "255"]
    assert set(store.targets(torch.arange(11)).unique().tolist()) == {0, 1}
    assert "masks hold 0 and 255 only, so 255 is a class here" in capsys.readouterr().out


def test_255_beside_other_classes_is_none(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root")
    mask = np.asarray(Image.open(root / "masks" / "00.png")).copy()
    mask[:12] = 255
    Image.fromarray(mask).save(root / "masks" / "00.png")
    store = packed(tmp_path, root)
    assert store.classes == ["0", "1"]
    assert (store.targets(torch.tensor([0]))[0, :8] == 255).all()
    assert store.labels[0].sum() == 16 * 8


def test_a_mask_of_another_size_is_named_and_its_tile_has_no_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pairs(tmp_path / "root")
    Image.fromarray(numbers(classes=2)).save(root / "masks" / "03.png")
    with pytest.raises(UserError, match=r"(?s)1 of 11 masks.*03\.png: another size than its image \(30 x 20"):
        packed(tmp_path, root)
    store = packed(tmp_path, root, bad_files=0.1)
    assert store.has_label.tolist() == [True] * 3 + [False] + [True] * 7 + [False]
    assert "their tiles have no label" in capsys.readouterr().out
    assert "masks/03.png\tanother size" in (tmp_path / "run" / "tiles" / "unusable_masks.txt").read_text()


def test_masks_of_a_packing_that_is_refused_replace_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pairs(tmp_path / "root")
    before = packed(tmp_path, root).targets(torch.arange(12))
    Image.fromarray(numbers(classes=2, height=24, width=24)).save(root / "masks" / "03.png")

    def refused(*_: object) -> None:
        raise UserError("splits cannot be drawn")

    with monkeypatch.context() as patched:
        patched.setattr(pack_tiles, "divide", refused)
        with pytest.raises(UserError, match="cannot be drawn"):
            packed(tmp_path, root)
    stage = tmp_path / "run" / "tiles"
    assert (stage / "stage.json").is_file()
    assert torch.equal(TileStore(stage).targets(torch.arange(12)), before)
    after = packed(tmp_path, root).targets(torch.arange(12))
    assert (after != before).flatten(1).any(1).tolist() == [number == 3 for number in range(12)]


def test_numbers_beyond_the_named_classes_are_named(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root", values=(0, 2))
    with pytest.raises(UserError, match=r"(?s)11 of 11 masks.*class number \(2; the classes have the numbers 0 to 1\)"):
        packed(tmp_path, root, mask_classes=["ground", "block"])


def test_masks_of_many_values_are_pictures(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root")
    for path in (root / "masks").iterdir():
        Image.fromarray(np.arange(24 * 24).reshape(24, 24).astype(np.uint8) % 200).save(path)
    with pytest.raises(UserError, match=r"200 different values.*data\.mask_classes"):
        read_all(root, 24)


def read_all(root: Path, size: int) -> tuple[list[str], torch.Tensor]:
    data = DataSettings(root=str(root), size=size)
    layout = layout_of(data, None)
    with reading():
        return read_labels(root, layout, layout.tiles, data)


def test_check_counts_what_packing_keeps(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root")
    found, store = survey(DataSettings(root=str(root), size=16)), packed(tmp_path, root)
    assert found.classes == store.classes
    assert torch.equal(found.labels, store.labels)
    assert torch.equal(found.split, store.split)


def test_a_changed_mask_is_noticed_and_changes_the_content(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root")
    run = Run(tmp_path / "run", Recipe(name="run", data=DataSettings(root=str(root), size=16)))
    pack_tiles.pack_tiles(run)
    before = plan.tiles(run).facts["content"]
    assert pack_tiles.changed(run) is None
    mask = np.asarray(Image.open(root / "masks" / "00.png")).copy()
    mask[:] = mask[::-1].copy()  # the same number of pixels of each class
    Image.fromarray(mask).save(root / "masks" / "00.png")
    assert pack_tiles.changed(run)
    pack_tiles.pack_tiles(run)
    assert plan.tiles(run).facts["content"] != before


def test_labels_of_another_kind_are_left_to_their_names(tmp_path: Path) -> None:
    for name in ("forest", "water"):
        (tmp_path / "root" / name).mkdir(parents=True)
        Image.fromarray(numbers()).save(tmp_path / "root" / name / "1.png")
    classes, labels = read_all(tmp_path / "root", 16)
    assert (classes, labels.tolist()) == (["forest", "water"], [0, 1])
    assert not (tmp_path / "root" / "masks.bin").exists()


def test_masks_of_windows_are_cut_like_the_tiles() -> None:
    values = np.arange(48).reshape(6, 8)
    mask = Mask(values.astype(np.uint8), False)
    assert json.dumps(fitted(mask.values, 6).tolist()) == json.dumps(values[:, 1:7].tolist())


def test_real_masks_are_kept_as_they_are(tmp_path: Path, real_data: Path) -> None:
    root = real_data / "masks"
    if not root.is_dir():
        pytest.skip(f"real masks: {root} is not there")
    run = Run(tmp_path / "run", Recipe(name="run", data=DataSettings(root=str(root), size=128)))
    pack_tiles.pack_tiles(run)
    store = TileStore(plan.tiles(run).path)
    assert (store.count, store.bands, store.classes) == (77, 12, ["0", "1"])
    assert store.has_label.all()
    masks = store.targets(torch.arange(77))
    for source, mask in zip(store.sources, masks, strict=True):
        truth = np.asarray(Image.open(root / "masks" / f"{Path(source.path).stem}.png"))
        assert np.array_equal(mask.numpy(), truth)
