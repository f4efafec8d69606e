"""Folders of images that are made from a seed: some layout, some type of values, odd names and damaged files.

b  bands     h w  pixels of a file
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from small_images import tiff

SIZE = 16
"""Side of a tile, in pixels."""
NAMES = [
    "t{}", "a tile {}", " lead{}", "t{}.B", "T#{}", "[red]{}", "-{}", "é{}", "e\u0301{}", "水{}", "🛰{}", "n\n{}",
    "u\u2028{}", "x\u0085{}", "q'{}", 'q"{}', "c,{}", "%{}", "a.tif{}",
]  # fmt: skip
CLASSES = ["forest", "water", "Größe", "[red]", "a b", "c;d", "水", "train station"]


@dataclass
class Made:
    """A folder, and what is known of it without reading it.

    Attributes:
        bands, dtype: of the data set.
        truth: relative path of each image -> its split and label as its folders or the table say.
        outside: number of images that the layout leaves out.
        others: number of files that are no images.
        table: name of the table of labels, if there is one.
        several: whether a file has several labels.
    """

    root: Path
    bands: int
    dtype: str
    nodata: int | None
    truth: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    outside: int = 0
    others: int = 0
    table: str | None = None
    several: bool = False


def make_folder(root: Path, seed: int) -> Made:
    """Make the folder of a seed below ``root``."""
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(["colours", "colours", "uint8", "uint16", "int16"]))
    bands = 3 if dtype == "colours" else int(rng.choice([1, 2, 4, 6]))
    nodata = (
        None if dtype == "colours" or rng.random() < 0.4 else int(rng.choice([0, 7, -9999 if dtype == "int16" else 0]))
    )
    made = Made(root, bands, "uint8" if dtype == "colours" else dtype, nodata)
    places = LAYOUTS[int(rng.integers(len(LAYOUTS)))](made, rng)
    style = NAMES[int(rng.integers(len(NAMES)))] if rng.random() < 0.6 else "t{}"
    for number, (folder, split, label) in enumerate(places):
        name = f"{style.format(number)}{SUFFIXES[dtype][int(rng.integers(len(SUFFIXES[dtype])))]}"
        _put(made, f"{folder}/{name}".lstrip("/"), split, label, _image(rng, made, dtype, name))
    for fault in rng.choice(len(FAULTS), int(rng.integers(0, 4)), replace=False):
        folder, split, label = places[int(rng.integers(len(places)))]
        FAULTS[int(fault)](made, rng, folder, split, label, dtype)
    if made.table:
        _write_table(made, rng)
    return made


SUFFIXES = {
    "colours": [".png", ".jpg", ".JPEG", ".webp", ".tif"], "uint8": [".tif", ".TIFF"], "uint16": [".tif"],
    "int16": [".tiff"],
}  # fmt: skip


def _put(made: Made, path: str, split: str | None, label: str | None, data: bytes) -> None:
    place = made.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    made.truth[path] = (split, label)


def _pixels(rng: np.random.Generator, made: Made, side: tuple[int, int]) -> np.ndarray:
    """Random values, (b, h, w), with negative ones in int16 and, where there is such a value, a corner of nodata."""
    lowest, highest = {"uint8": (1, 256), "uint16": (1, 60000), "int16": (-3000, 9000)}[made.dtype]
    pixels = rng.integers(lowest, highest, (made.bands, *side)).astype(made.dtype)
    if made.nodata is not None:
        pixels[pixels == made.nodata] = 1
        if rng.random() < 0.5:
            pixels[:, : int(rng.integers(1, side[0] // 2 - 1)), : side[1] // 2] = made.nodata
    return pixels


def _image(rng: np.random.Generator, made: Made, dtype: str, name: str) -> bytes:
    side = (SIZE, SIZE) if rng.random() < 0.5 else (int(rng.integers(SIZE, 40)), int(rng.integers(SIZE, 40)))
    pixels = _pixels(rng, made, side)
    if dtype != "colours":
        return _raster(made, pixels)
    image, buffer = Image.fromarray(pixels.transpose(1, 2, 0)), io.BytesIO()
    suffix = name.rpartition(".")[2].lower()
    if suffix == "png" and rng.random() < 0.3:
        image = image.convert(str(rng.choice(["L", "P", "RGBA"])))
        if image.mode == "RGBA":
            image.putpixel((0, 0), (9, 9, 9, 0))
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    kind = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"}[suffix]
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    image.save(buffer, kind, **options, **({"exif": exif} if kind in ("JPEG", "WEBP") and rng.random() < 0.5 else {}))
    return buffer.getvalue()


def _raster(made: Made, pixels: np.ndarray) -> bytes:
    place = made.root.parent / "scratch.tif"
    options = {} if made.nodata is None else {"nodata": made.nodata}
    return tiff(place, pixels, photometric="minisblack", alpha="no", **options)


# ---------------------------------------------------------------- layouts: folder, split and label of each file

Place = tuple[str, str | None, str | None]


def _classes_of(rng: np.random.Generator) -> list[str]:
    return sorted(str(name) for name in rng.choice(CLASSES, int(rng.integers(2, 4)), replace=False))


def _flat(made: Made, rng: np.random.Generator) -> list[Place]:
    return [("", None, None)] * 8


def _nested(made: Made, rng: np.random.Generator) -> list[Place]:
    return [(f"x/{number % 3}/y", None, None) for number in range(9)]


def _in_classes(made: Made, rng: np.random.Generator) -> list[Place]:
    tiles: list[Place] = [(name, None, name) for name in _classes_of(rng) for _ in range(4)]
    return tiles + [("unlabelled/deep", None, None)] * int(rng.integers(0, 3))


def _in_a_lone_folder(made: Made, rng: np.random.Generator) -> list[Place]:
    top = str(rng.choice(["train", "EuroSAT/2750", "images"]))
    return [(f"{top}/{folder}", split, label) for folder, split, label in _in_classes(made, rng)]


def _names_of_splits(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Name of a folder and its split; at least train and another one."""
    row = [("train", "val", "test"), ("Training", "Validation", "Testing"), ("train2017", "val2017", "test2017")]
    names = list(zip(row[int(rng.integers(3))], ("train", "valid", "test"), strict=True))
    return names if rng.random() < 0.6 else [names[0], names[int(rng.integers(1, 3))]]


def _in_splits(made: Made, rng: np.random.Generator) -> list[Place]:
    tiles: list[Place] = []
    for folder, split in _names_of_splits(rng):
        tiles += [(folder, split, None)] * (8 if split == "train" else 3)
    return tiles


def _in_splits_and_classes(made: Made, rng: np.random.Generator) -> list[Place]:
    inside, tiles = rng.random() < 0.4, []
    classes = _classes_of(rng)
    for folder, split in _names_of_splits(rng):
        for name in classes:
            place = f"{name}/{folder}" if inside else f"{folder}/{name}"
            tiles += [(place, split, name)] * (5 if split == "train" else 2)
    return tiles


def _in_a_table(made: Made, rng: np.random.Generator) -> list[Place]:
    made.table, made.several = str(rng.choice(["labels.csv", "meta/my labels.csv"])), bool(rng.random() < 0.5)
    classes, splits = ["dry", "wet", "Größe"], [None] if rng.random() < 0.5 else ["train", "train", "valid", "test"]
    tiles: list[Place] = []
    for number in range(12):
        names = sorted({classes[number % 3], *([classes[(number + 1) % 3]] if made.several and number % 2 else [])})
        tiles.append((f"x/{number % 2}", splits[number % len(splits)], ";".join(names)))
    return tiles


LAYOUTS: list[Callable[[Made, np.random.Generator], list[Place]]] = [
    _flat, _nested, _in_classes, _in_classes, _in_a_lone_folder, _in_splits, _in_splits_and_classes,
    _in_splits_and_classes, _in_a_table,
]  # fmt: skip


def _write_table(made: Made, rng: np.random.Generator) -> None:
    """The rows in any order, columns by any of their names, and some files without a row."""
    header = {"file": str(rng.choice(["file", "filename", "path"])), "labels": str(rng.choice(["label", "labels"]))}
    order = ["file", "labels"]
    if any(split for split, _ in made.truth.values()):
        header["split"], order = "split", ["split", "file", "labels"]
    rows = [",".join(header[name] for name in order)]
    without_row = rng.random() < 0.5 and "split" not in header
    paths = list(made.truth)
    for number in rng.permutation(len(paths)):
        split, label = made.truth[paths[number]]
        utf8 = paths[number].isascii() or paths[number].encode(errors="replace").decode() == paths[number]
        if not utf8 or (without_row and number == 0):
            made.truth[paths[number]] = (None, None)
            continue
        said = {"valid": str(rng.choice(["val", "valid", "validation"]))}.get(str(split), str(split))
        quoted = paths[number].replace('"', '""')
        cells = {"file": f'"{quoted}"', "labels": str(label), "split": said}
        rows.append(",".join(cells[name] for name in order))
    assert made.table
    place = made.root / made.table
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes("\r\n".join(rows).encode())


# ---------------------------------------------------------------- faults


def _file(made: Made, folder: str, split: str | None, label: str | None, name: str, data: bytes) -> None:
    _put(made, f"{folder}/{name}".lstrip("/"), split, label, data)


def _truncated(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    data = _image(rng, made, dtype, "z.png")
    _file(made, folder, split, label, "cut.png" if dtype == "colours" else "cut.tif", data[: len(data) // 2])


def _empty(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    _file(made, folder, split, label, "empty.jpg", b"")


def _text(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    _file(made, folder, split, label, "text.jpg", b"A text, which someone called a picture.")


def _small(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    _file(made, folder, split, label, "small.tif", _raster(made, _pixels(rng, made, (SIZE - 1, 30))))


def _more_bands(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    pixels = _pixels(rng, made, (SIZE, SIZE))
    _file(made, folder, split, label, "bands.tif", _raster(made, np.concatenate([pixels, pixels, pixels[:1]])))


def _floats(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    pixels = _pixels(rng, made, (SIZE, SIZE)).astype(np.float32)
    _file(made, folder, split, label, "floats.tif", _raster(made, pixels))


def _void(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    pixels = _pixels(rng, made, (SIZE, SIZE))
    if made.nodata is not None:
        pixels[:, 4:] = made.nodata
    _file(made, folder, split, label, "void.tif", _raster(made, pixels))


def _dangling(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    path = f"{folder}/gone.tif".lstrip("/")
    (made.root / path).parent.mkdir(parents=True, exist_ok=True)
    (made.root / path).symlink_to("nowhere.tif")
    made.truth[path] = (split, label)


def _pipe(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    os.mkfifo(made.root / folder / "pipe.jpg")
    made.others += 1


def _further(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    """An array of numpy, a text, hidden files, and a folder with the name of a picture."""
    np.save(made.root / folder / "array.npy", np.zeros((3, SIZE, SIZE)))
    (made.root / folder / "notes.txt").write_text("notes")
    (made.root / folder / ".hidden.png").write_bytes(b"x")
    (made.root / folder / "folder.png").mkdir()
    made.others += 2


def _not_utf8(
    made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str
) -> None:
    _file(made, folder, split, label, os.fsdecode(b"caf\xe9.tif"), _raster(made, _pixels(rng, made, (SIZE, SIZE))))


def _copy(made: Made, rng: np.random.Generator, folder: str, split: str | None, label: str | None, dtype: str) -> None:
    first = next(iter(made.truth))
    if (made.root / first).is_file():
        _file(made, folder, split, label, f"copy.{first.rpartition('.')[2]}", (made.root / first).read_bytes())


FAULTS = [
    _truncated, _empty, _text, _small, _more_bands, _floats, _void, _dangling, _pipe, _further, _not_utf8, _copy,
]  # fmt: skip
