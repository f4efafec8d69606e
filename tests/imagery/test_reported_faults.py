"""Small folders on which the kit once went wrong, each made here, and what is right on it."""

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import colours, tiff

from gcl_custom.check.survey import survey
from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Unusable, decode, reading
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.scenes.opening import PNG
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

Both = Callable[[DataSettings], str]


@pytest.fixture
def both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Both:
    """Check and pack the files of some settings; what both said, and the same refusal of both."""

    def do(data: DataSettings) -> str:
        refusals = []
        for look in (survey, lambda data: pack_tiles(run_of(tmp_path, data))):
            try:
                look(data)
            except UserError as refusal:
                refusals.append(refusal)
        said = capsys.readouterr().out
        assert len(refusals) in (0, 2), said
        if refusals:
            raise refusals[1]
        return said

    return do


def run_of(folder: Path, data: DataSettings) -> Run:
    return Run(folder / "run", Recipe(name="run", data=data))


def store_of(folder: Path, data: DataSettings) -> TileStore:
    return TileStore(plan.tiles(run_of(folder, data)).path)


def in_classes(root: Path, *names: str, count: int = 6) -> Path:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for tile in range(count):
            Image.fromarray(colours(100 * number + tile, 16)).save(root / name / f"{name}_{tile}.png")
    return root


def rasters(root: Path, make: Callable[[int], np.ndarray], count: int = 24, **options: object) -> Path:
    root.mkdir()
    for number in range(count):
        tiff(root / f"t{number:02d}.tif", make(number), **options)
    return root


def random_values(number: int, bands: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).integers(1, 9000, (bands, side, side)).astype(np.uint16)


def test_radar_in_decibels_below_zero_is_stored_as_it_is(tmp_path: Path, both: Both) -> None:
    def decibels(number: int) -> np.ndarray:
        return -random_values(number, 2).astype(np.int16)

    data = DataSettings(root=str(rasters(tmp_path / "tiles", decibels, nodata=-32768)), size=16)
    both(data)
    store = store_of(tmp_path, data)
    assert store.dtype == "int16"
    assert np.array_equal(store.read(torch.arange(24)).numpy(), np.stack([decibels(number) for number in range(24)]))
    assert (store.high < 0).all()


def test_near_infrared_that_is_called_alpha_is_a_band_under_a_card_of_four(tmp_path: Path, both: Both) -> None:
    """Lakes have next to none of it, and are no nodata."""
    root = tmp_path / "tiles"
    root.mkdir()
    for number in range(24):
        values = (random_values(number, 4) % 256).astype(np.uint8)
        values[3, : 10 if number >= 18 else 0] = 0
        tiff(root / f"t{number:02d}.tif", values, photometric="RGB", alpha="yes")
    card = tmp_path / "card.yaml"
    card.write_text("name: c\ntitle: t\nsource: s\nlicence: l\nbands: [red, green, blue, near infrared]\n")
    with_card = DataSettings(root=str(root), card=str(card), size=16)
    assert "unusable files: none" in both(with_card)
    store = store_of(tmp_path, with_card)
    assert (store.bands, len(store)) == (4, 24)
    shutil.rmtree(tmp_path / "run")
    without = both(DataSettings(root=str(root), size=16, nodata_files=1.0))
    assert without.count("name all bands (data.bands)") == 2
    assert without.count("6 of 24 files are left out, as more than 50% of their pixels hold no data") == 2


def test_twelve_pages_are_no_single_band(tmp_path: Path, both: Both) -> None:
    (tmp_path / "tiles").mkdir()
    pages = [Image.fromarray(random_values(number, 1)[0]) for number in range(12)]
    for number in range(4):
        pages[0].save(tmp_path / "tiles" / f"{number}.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"12 pages; only a TIFF of one is read: .*planarconfig='separate'"):
        both(DataSettings(root=str(tmp_path / "tiles"), size=16))


def test_where_all_files_are_unusable_there_is_one_message_with_the_reasons(tmp_path: Path, both: Both) -> None:
    root = in_classes(tmp_path / "tiles", "a", "b", count=8)
    with pytest.raises(UserError, match=r"(?s)16 of 16 files are unusable \(16 smaller than data\.size.*a/a_0\.png: "):
        both(DataSettings(root=str(root), size=64))


def test_a_dangling_link_and_an_unreadable_file_are_counted(
    tmp_path: Path, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real = in_classes(tmp_path / "tiles", "Forest", "River", count=12), Path.read_bytes
    (root / "Forest" / "zz.jpg").symlink_to("gone.jpg")

    def denied(self: Path) -> bytes:
        if self.name == "River_0.png":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", denied)
    said = both(DataSettings(root=str(root), size=16, bad_files=0.1))
    assert said.count("2 cannot be opened") == 2
    assert "Forest/zz.jpg: cannot be opened (No such file or directory)" in said
    assert "River/River_0.png: cannot be opened (Permission denied)" in said


@pytest.mark.parametrize(
    ("stray", "kept"), [("overview.png", True), ("Forest/deep/x.png", True), ("Forest/thumbs/Forest_0.png", False)]
)
def test_one_stray_picture_costs_no_label_and_is_named(stray: str, kept: bool, tmp_path: Path, both: Both) -> None:
    root = in_classes(tmp_path / "tiles", "Forest", "River", "SeaLake")
    (root / stray).parent.mkdir(exist_ok=True)
    Image.fromarray(colours(999, 16)).save(root / stray)
    data = DataSettings(root=str(root), size=16)
    assert both(data).count(stray) >= 2
    store = store_of(tmp_path, data)
    assert store.classes == ["Forest", "River", "SeaLake"]
    assert (int((store.labels >= 0).sum()), len(store)) == (18, 18 + kept)


def test_pictures_of_a_run_below_the_root_are_no_tiles(
    tmp_path: Path, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = in_classes(tmp_path / "tiles", "a", "b")
    monkeypatch.chdir(root)
    data = DataSettings(root=".", size=16)
    for _ in range(2):
        run = Run(Path("runs") / "tiny", Recipe(name="tiny", data=data))
        with run_saved(run):
            pack_tiles(run)
        (run.path / "tokenizer" / "pictures").mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours(0)).save(run.path / "tokenizer" / "pictures" / "1.png")
        assert len(TileStore(plan.tiles(run).path)) == 12


def run_saved(run: Run) -> object:
    """As a command holds a run: locked, with its recipe beside it."""
    run.path.mkdir(parents=True, exist_ok=True)
    (run.path / ".lock").touch()
    return run.saved()


def test_a_jpeg_is_resized_as_export_says_it(tmp_path: Path, both: Both) -> None:
    """64 to 32 px and 350 to 32 px, of pictures full of detail."""
    root = tmp_path / "tiles"
    root.mkdir()
    for number in range(6):
        Image.fromarray(colours(number, 350 if number % 2 else 64)).save(root / f"{number}.jpg", quality=95)
    data = DataSettings(root=str(root), size=32)
    both(data)
    store = store_of(tmp_path, data)
    for number, source in enumerate(store.sources):
        stated = Image.open(root / source.path).resize((32, 32), Image.Resampling.BILINEAR)
        tile = store.read(torch.tensor([number]))[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(tile - np.asarray(stated)).max() <= 1


def test_an_orientation_of_a_tiff_is_followed_as_that_of_a_jpeg() -> None:
    picture, exif = Image.fromarray(colours(1, 12)).resize((24, 16)), Image.Exif()
    exif[0x0112] = 6
    turned, photo = io.BytesIO(), io.BytesIO()
    picture.save(turned, "TIFF", tiffinfo={274: 6})
    picture.save(photo, "JPEG", exif=exif, quality=100, subsampling=0)
    with reading():
        found, other = decode(turned.getvalue()).pixels, decode(photo.getvalue()).pixels
    assert np.array_equal(found, np.rot90(np.asarray(picture), -1).transpose(2, 0, 1))
    assert found.shape == other.shape == (3, 24, 16)


def test_a_scene_that_becomes_one_tile_is_said(tmp_path: Path, both: Both) -> None:
    root = rasters(tmp_path / "tiles", lambda number: random_values(number, 1), 5)
    tiff(root / "scene.tif", np.ones((1, 4608, 4608), np.uint16), compress="deflate")
    said = both(DataSettings(root=str(root), size=16))
    assert said.count("1 file is 16 times as large as data.size or more") == 2
    assert said.count("--set data.scenes.tile=64") == 2


def test_a_large_png_is_too_large_not_damaged() -> None:
    """16,000 x 12,000 px; nothing but its header."""
    head, zeros = b"IHDR" + struct.pack(">IIBBBBB", 16_000, 12_000, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(9))
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, zeros)
    )
    data = PNG + b"".join(chunks)
    with reading(), pytest.raises(Unusable, match=r"too large \(192000000 pixels; cut it into tiles first\)"):
        decode(data)


def test_band_files_of_one_place_are_no_tiles_of_their_own(tmp_path: Path, both: Both) -> None:
    (tmp_path / "tiles").mkdir()
    for number in range(8):
        for band in ("B02", "B03", "B04"):
            tiff(tmp_path / "tiles" / f"S2_{number:02d}_{band}.tif", random_values(number, 1))
    joins = r"rio stack S2_00_B02\.tif S2_00_B03\.tif S2_00_B04\.tif -o S2_00\.tif"
    with pytest.raises(UserError, match=rf"the files are bands of 8 places.*{joins}"):
        both(DataSettings(root=str(tmp_path / "tiles"), size=16))


def test_masks_beside_images_are_labels_of_their_pixels(tmp_path: Path, both: Both) -> None:
    (tmp_path / "tiles").mkdir()
    rasters(tmp_path / "tiles" / "images", lambda number: random_values(number, 12), 8)
    rasters(tmp_path / "tiles" / "masks", lambda number: random_values(number, 1) % 2, 8)
    data = DataSettings(root=str(tmp_path / "tiles"), size=16)
    both(data)
    store = store_of(tmp_path, data)
    assert (store.count, store.bands, store.classes, store.kind.measure) == (8, 12, ["0", "1"], "mIoU")


def test_pictures_in_the_place_of_masks_are_named(tmp_path: Path, both: Both) -> None:
    (tmp_path / "tiles").mkdir()
    rasters(tmp_path / "tiles" / "images", lambda number: random_values(number, 12), 3)
    rasters(tmp_path / "tiles" / "masks", lambda number: random_values(number, 1), 3)
    with pytest.raises(UserError, match=r"(?s)3 of 3 masks.*class number.*set data\.root to the folder of"):
        both(DataSettings(root=str(tmp_path / "tiles"), size=16))


def test_nodata_at_the_border_of_a_scene_is_no_damage(tmp_path: Path, both: Both) -> None:
    """56 of 510 files."""

    def cut(number: int) -> np.ndarray:
        values = random_values(number, 1)
        values[:, 2:] *= number >= 56
        return values

    data = DataSettings(root=str(rasters(tmp_path / "tiles", cut, 510, nodata=0)), size=16)
    assert both(data).count("56 of 510 files are left out") == 2
    facts = plan.tiles(run_of(tmp_path, data)).facts
    assert (facts["unusable"], facts["nodata"], len(store_of(tmp_path, data))) == (0, 56, 454)


def test_a_table_of_another_program_is_read(tmp_path: Path, both: Both) -> None:
    """Other names of columns in another order, a split called val, quotes, and the end of a line of Windows."""
    root = in_classes(tmp_path / "tiles", "north", "south")
    (root / "meta").mkdir()
    rows = [
        f'{("train", "val", "test")[tile % 3]},"{("wet", "dry")[tile % 2]}",./{name}/{name}_{tile}.png'
        for name in ("north", "south")
        for tile in range(6)
    ]
    (root / "meta" / "labels.csv").write_bytes("\r\n".join(["Split,label,filename", *rows]).encode("utf-8-sig"))
    data = DataSettings(root=str(root), size=16, labels="meta/labels.csv")
    both(data)
    store = store_of(tmp_path, data)
    assert store.classes == ["dry", "wet"]
    assert [len(store.index(split)) for split in ("train", "valid", "test")] == [4, 4, 4]
    assert store.labels.tolist() == [1, 0, 1, 0, 1, 0] * 2


def test_a_table_outside_of_the_root_is_not_opened(tmp_path: Path, both: Both) -> None:
    root = in_classes(tmp_path / "tiles", "north", "south")
    (tmp_path / "outside.csv").write_text("secret,words\n")
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    for labels in ("../outside.csv", str(tmp_path / "outside.csv"), "link.csv", "/etc/passwd"):
        with pytest.raises(UserError, match=r"lies outside of data\.root") as refusal:
            both(DataSettings(root=str(root), size=16, labels=labels))
        assert "secret" not in str(refusal.value)
