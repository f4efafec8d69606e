import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image, ImageFile
from rasterio.enums import ColorInterp
from small_images import tiff

from gcl_custom.imagery.decoding import Form, Tile, Unusable, decode, form_of, reading, tile_from
from gcl_custom.imagery.source import Window

RGB = Form(3, "uint8")


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them nearly."""
    small = np.random.default_rng(seed).integers(40, 215, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes, form: Form = RGB, size: int = 48, upscale: bool = False, nodata: float = 0.5) -> Tile:
    with reading():
        return tile_from(data, form, size, upscale, nodata)


@pytest.mark.parametrize(
    ("mode", "kind", "options", "error"),
    [
        ("RGB", "PNG", {}, 0),
        ("RGB", "WEBP", {"lossless": True}, 0),
        ("RGB", "TIFF", {}, 0),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0}, 2),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 2),
        ("CMYK", "JPEG", {"quality": 95}, 2),
        ("P", "PNG", {}, 0),
        ("P", "TIFF", {}, 0),
    ],
)
def test_every_format_gives_the_same_colours(mode: str, kind: str, options: dict, error: int) -> None:
    image = Image.fromarray(picture())
    image = image.quantize(128) if mode == "P" else image.convert(mode)
    with reading():
        pixels = decode(encoded(image, kind, **options)).pixels
    truth = np.asarray(image.convert("RGB") if mode == "P" else picture()).transpose(2, 0, 1).astype(int)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - truth).mean() <= error


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_followed(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the upper edge is on the right
    with reading():
        pixels = decode(encoded(Image.fromarray(picture()), kind, exif=exif, quality=100)).pixels
    assert pixels.shape == (3, 64, 48)
    turned = np.rot90(picture(), -1).transpose(2, 0, 1).astype(int)
    assert np.abs(pixels - turned).mean() < 6


def test_greyscale_among_rgb_is_repeated_and_alpha_is_dropped_as_nodata() -> None:
    grey = read(encoded(Image.fromarray(picture()).convert("L"), "JPEG"))
    assert grey.grey
    assert np.array_equal(grey.pixels[0], grey.pixels[2])
    rgba = np.dstack([picture(), np.full((48, 64), 255, dtype=np.uint8)])
    rgba[:, :20, 3] = 0
    tile = read(encoded(Image.fromarray(rgba), "PNG"))
    assert tile.alpha
    assert tile.nodata == pytest.approx(12 / 48)  # the centre crop begins at column 8
    assert not tile.pixels[:, :, :12].any()
    assert np.array_equal(tile.pixels[:, :, 12:], picture()[:, 20:56].transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused_even_if_another_library_asked_for_leniency(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(picture(200, 200)), kind)
    with pytest.raises(Unusable, match="truncated or damaged"):
        read(data[: int(len(data) * share)])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_damaged_files_end_in_a_reason_and_never_in_a_crash() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(Image.fromarray(picture()), kind)
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                broken[place] ^= int(rng.integers(1, 256))
            with contextlib.suppress(Unusable):
                assert read(bytes(broken), upscale=True, nodata=1.0).pixels.shape == (3, 48, 48)


def test_a_picture_of_too_many_pixels_is_too_large_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit, 179 million pixels, is lowered here, and its sentence of an attack is not shown."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    for look in (lambda: read((tmp_path / "a.png").read_bytes()), lambda: form_of(tmp_path / "a.png")):
        with reading(), pytest.raises(Unusable) as refusal:
            look()
        assert str(refusal.value) == "too large (3072 pixels; cut it into tiles first)"


@pytest.mark.parametrize("data", [b"", b"Not an image but a text, which someone called picture.jpg." * 4])
def test_text_is_not_an_image(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(data)
    with pytest.raises(Unusable, match="not an image"):
        read(data)
    with pytest.raises(Unusable, match="not an image"):
        form_of(tmp_path / "picture.jpg")


def test_rasters_keep_their_values_and_their_nodata(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 60000, (5, 40, 40)).astype(np.uint16)
    values[:, :10] = 65535
    values[2, 20, 20] = 65535  # of a pixel with data in the other bands: it may be as bright as that
    data = tiff(tmp_path / "a.tif", values, nodata=65535)
    tile = read(data, Form(5, "uint16"), size=40)
    assert tile.nodata == 0.25
    assert not tile.pixels[:, :10].any()
    assert tile.pixels[2, 20, 20] == 65535
    values[:, :10] = 0
    assert np.array_equal(tile.pixels, values)
    with pytest.raises(Unusable, match="nodata"):
        read(data, Form(5, "uint16"), size=40, nodata=0.2)


def test_int16_keeps_its_values_and_float_is_refused(tmp_path: Path) -> None:
    values = np.arange(-800, 800).reshape(1, 40, 40).astype(np.int16)
    data = tiff(tmp_path / "a.tif", values)
    with reading():
        assert form_of(tmp_path / "a.tif") == Form(1, "int16")
    tile = read(data, Form(1, "int16"), size=40)
    assert tile.pixels.dtype == np.int16
    assert np.array_equal(tile.pixels, values)
    halved = read(data, Form(1, "int16"), size=20).pixels.astype(int)
    assert np.abs(halved - values.reshape(1, 20, 2, 20, 2).mean((2, 4))).max() < 45  # antialiasing sees neighbours, too
    with pytest.raises(Unusable, match="-800 to 799 among tiles of uint16"):
        read(data, Form(1, "uint16"), size=40)
    with pytest.raises(Unusable, match="float32"):
        read(tiff(tmp_path / "b.tif", values.astype(np.float32)), size=40)


def test_the_two_types_of_sixteen_bits_are_one_where_their_values_fit(tmp_path: Path) -> None:
    values = np.arange(1600).reshape(1, 40, 40)
    for given, wanted in (("int16", "uint16"), ("uint16", "int16")):
        tile = read(tiff(tmp_path / "a.tif", values.astype(given)), Form(1, wanted), size=40)
        assert tile.pixels.dtype == wanted
        assert np.array_equal(tile.pixels, values)
    with pytest.raises(Unusable, match="0 to 40000 among tiles of int16"):
        read(tiff(tmp_path / "a.tif", (values * 40).clip(0, 40000).astype(np.uint16)), Form(1, "int16"), size=40)


def test_a_negative_nodata_value_of_one_band_is_no_measurement(tmp_path: Path) -> None:
    values = np.full((2, 40, 40), -1500, dtype=np.int16)
    values[:, :10] = -9999
    values[1, 20, 20] = -9999
    tile = read(tiff(tmp_path / "a.tif", values, nodata=-9999), Form(2, "int16"), size=40)
    assert tile.nodata == 0.25
    assert tile.pixels[:, 20, 20].tolist() == [-1500, -32768]
    assert set(np.unique(tile.pixels)) == {-1500, -32768}
    assert tile.lacking == (0.25, 0.25 + 1 / 1600)
    halved = read(tiff(tmp_path / "a.tif", values, nodata=-9999), Form(2, "int16"), size=20)
    assert set(np.unique(halved.pixels)) == {-1500, -32768}, "a value without data is averaged with none around it"


def test_a_tiff_of_several_pages_is_refused_with_the_way_out(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(seed=number)) for number in range(12)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    (tmp_path / "a.tif").write_bytes(data)
    for look in (lambda: read(data), lambda: form_of(tmp_path / "a.tif")):
        with pytest.raises(Unusable, match=r"several pages \(12 pages; .*planarconfig"), reading():
            look()


def test_overviews_and_masks_of_a_tiff_are_no_pages(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 60000, (3, 64, 64)).astype(np.uint16)
    tiff(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    with reading(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "r+") as target:
        target.write_mask(np.tri(64, dtype=bool))
        target.build_overviews([2, 4])
    tile = read((tmp_path / "a.tif").read_bytes(), Form(3, "uint16"), size=64)
    assert np.array_equal(tile.pixels, values * np.tri(64, dtype=bool))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright_as_exif_would_be(orientation: int) -> None:
    """Pillow's own turning is the judge. A window is cut from the upright picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), "TIFF", tiffinfo={274: orientation})
    reference = encoded(Image.fromarray(picture()), "PNG", exif=exif)
    with reading():
        assert np.array_equal(decode(data).pixels, decode(reference).pixels)
        window = Window(3, 5, 20, 16)
        assert np.array_equal(decode(data, window=window).pixels, decode(reference, window=window).pixels)


def near_infrared_as_alpha(path: Path) -> np.ndarray:
    """Four bands as many aerial pictures have them: the file calls near infrared alpha, and lakes have none of it."""
    values = np.random.default_rng(0).integers(1, 255, (4, 32, 32)).astype(np.uint8)
    values[3, :20] = 0
    with rasterio.open(path, "w", driver="GTiff", count=4, height=32, width=32, dtype="uint8") as target:
        target.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        target.write(values)
    return values


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_in_a_data_set_of_four_bands_the_fourth_is_a_band_whatever_the_file_calls_it(kind: str, tmp_path: Path) -> None:
    with reading():
        values = near_infrared_as_alpha(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    data = data if kind == "TIFF" else encoded(Image.fromarray(values.transpose(1, 2, 0)), "PNG")
    tile = read(data, Form(4, "uint8"), size=32)
    assert (tile.nodata, tile.alpha) == (0, False)
    assert np.array_equal(tile.pixels, values)
    with pytest.raises(Unusable, match="62% of its pixels"):
        read(data, Form(3, "uint8"), size=32)


def test_sixteen_bit_png_keeps_its_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (3, 32, 32)).astype(np.uint16)
    with reading():
        with rasterio.open(
            tmp_path / "a.png", "w", driver="PNG", count=3, height=32, width=32, dtype="uint16"
        ) as target:
            target.write(values)
        assert form_of(tmp_path / "a.png") == Form(3, "uint16")
    assert np.array_equal(read((tmp_path / "a.png").read_bytes(), Form(3, "uint16"), size=32).pixels, values)


def test_an_alpha_band_of_a_raster_masks(tmp_path: Path) -> None:
    values = np.full((4, 32, 32), 200, dtype=np.uint8)
    values[3, :8] = 0
    roles = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with (
        reading(),
        rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=4, height=32, width=32, dtype="uint8") as target,
    ):
        target.colorinterp = roles
        target.write(values)
    tile = read((tmp_path / "a.tif").read_bytes(), size=32)
    assert (tile.alpha, tile.nodata) == (True, 0.25)
    assert not tile.pixels[:, :8].any()


def test_wrong_bands_types_and_sizes_name_the_cause(tmp_path: Path) -> None:
    four = tiff(tmp_path / "four.tif", np.ones((4, 48, 48), dtype=np.uint8), photometric="minisblack", alpha="no")
    with pytest.raises(Unusable, match="4, the data set has 3"):
        read(four)
    with pytest.raises(Unusable, match="uint8 among tiles of uint16"):
        read(encoded(Image.fromarray(picture()), "PNG"), Form(3, "uint16"))
    small = encoded(Image.fromarray(picture(20, 30)), "PNG")
    with pytest.raises(Unusable, match=r"30 x 20 px, data.size is 48: .*data.upscale"):
        read(small)
    assert read(small, upscale=True).pixels.shape == (3, 48, 48)


def test_resizing_averages_the_shorter_side_and_takes_the_centre() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    large = blocks.repeat(4, 0).repeat(4, 1)
    tile = read(encoded(Image.fromarray(large), "PNG"), size=16).pixels
    reference = np.asarray(Image.fromarray(large).resize((24, 16), Image.Resampling.BILINEAR))[:, 4:20].transpose(
        2, 0, 1
    )
    assert np.abs(tile.astype(int) - reference).max() <= 1


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 32), (350, 350, 64), (350, 500, 48), (48, 64, 48)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_tile_is_the_resize_that_export_states_whatever_the_format(
    kind: str, height: int, width: int, size: int
) -> None:
    """Bilinear, antialiased, of the pixels of the whole file; Pillow is the judge, and differs in the last rounding.

    The picture is full of fine detail, which a JPEG decoder can leave out.
    """
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    data = encoded(image, kind, **({"quality": 95} if kind == "JPEG" else {}))
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    shape = (round(width * size / min(height, width)), round(height * size / min(height, width)))
    left, top = ((side - size) // 2 for side in shape)
    stated = whole.resize(shape, Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    difference = np.abs(read(data, size=size).pixels.astype(int) - np.asarray(stated).transpose(2, 0, 1))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_nodata_does_not_darken_its_border_when_resized(tmp_path: Path) -> None:
    values = np.full((2, 64, 64), 1000, dtype=np.uint16)
    values[:, :, :21] = 0
    tile = read(tiff(tmp_path / "a.tif", values, nodata=0), Form(2, "uint16"), size=32)
    assert set(np.unique(tile.pixels)) == {0, 1000}
    assert tile.nodata == pytest.approx(21 / 64, abs=1 / 32)


WINDOW = Window(column=12, row=5, width=24, height=16)


def inside(picture: np.ndarray) -> np.ndarray:
    """The pixels of WINDOW."""
    return picture[..., 5:21, 12:36]


def test_a_window_of_a_raster_holds_its_pixels_and_its_nodata(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 60000, (4, 70, 100)).astype(np.uint16)
    values[:, :8] = 65535
    data = tiff(tmp_path / "a.tif", values, nodata=65535, tiled=True, blockxsize=16, blockysize=16)
    values[values == 65535] = 0
    with reading():
        found = decode(data, window=WINDOW)
    assert np.array_equal(found.pixels, inside(values))
    assert found.valid is not None
    assert np.array_equal(found.valid, inside(values)[0] > 0)
    with reading():
        tile = tile_from(data, Form(4, "uint16"), 16, False, 0.5, WINDOW)
        assert decode(data, window=Window(60, 50, 40, 20)).valid is None  # the nodata lies elsewhere
    assert tile.nodata == 3 / 16
    assert np.array_equal(tile.pixels, inside(values)[:, :, 4:20])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_window_of_a_picture_is_cut_from_the_decoded_and_upright_file(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture(400, 300)), kind, exif=exif)
    with reading():
        assert np.array_equal(decode(data, window=WINDOW).pixels, inside(decode(data).pixels))


def test_a_window_of_a_picture_with_an_alpha_band_keeps_its_mask() -> None:
    rgba = np.dstack([picture(), np.full((48, 64), 255, dtype=np.uint8)])
    rgba[:8, :, 3] = 0
    data = encoded(Image.fromarray(rgba), "PNG")
    with reading():
        found, below = decode(data, window=WINDOW), decode(data, window=WINDOW._replace(row=8))
    assert found.valid is not None
    assert found.valid.sum() == 13 * 24
    assert below.valid is None


@pytest.mark.parametrize("window", [Window(41, 0, 24, 16), Window(0, 33, 24, 16)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_window_that_leaves_its_file_is_refused(kind: str, window: Window) -> None:
    data = encoded(Image.fromarray(picture()), kind)
    with reading(), pytest.raises(Unusable, match=r"24 x 16 px at column .*; the file has 64 x 48 px"):
        decode(data, window=window)


def test_every_real_raster_is_read_or_refused_with_a_reason(real_data: Path) -> None:
    warnings.simplefilter("error")
    files = sorted((real_data / "geotiff").glob("*.tif"))
    assert len(files) == 11
    with reading():
        for path in files:
            form = form_of(path)
            tile = tile_from(path.read_bytes(), form, 128, False, 0.5)
            assert tile.pixels.shape == (form.bands, 128, 128)
            with rasterio.open(path) as dataset:
                assert (form.bands, form.dtype) == (dataset.count, dataset.dtypes[0])
                assert tile.nodata == 0 or dataset.nodata is not None
            assert tile.pixels.max() > 0
            with pytest.raises(Unusable, match="data set has"):
                tile_from(path.read_bytes(), form._replace(bands=form.bands + 1), 128, False, 0.5)
            with pytest.raises(Unusable, match=r"data\.upscale"):
                tile_from(path.read_bytes(), form, 1024, False, 0.5)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_a_decoder_may_not_write_to_is_resized_without_a_warning(tmp_path: Path, mode: str) -> None:
    """torch warns of it, on a user's console, where numpy hands it memory that is read-only."""
    data = encoded(Image.fromarray(picture()).convert(mode), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(), reading():
            warnings.simplefilter("error")
            form = form_of(tmp_path / "a.png")
            assert tile_from(data, form, 24, False, 0.5).pixels.shape == (form.bands, 24, 24)
    finally:
        torch.set_warn_always(before)
