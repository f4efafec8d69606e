"""Finding the tiles of a folder, and what their folders say of them: class, split, or nothing.

Four layouts are recognised. A card states one of them and takes precedence.

    a.jpg, x/y/b.jpg                     unlabelled, flat or nested
    forest/a.jpg, water/b.jpg            class folders: two or more, nearly every image exactly one folder down
    train/a.jpg, valid/b.jpg             given splits; the validation split may be called val or validation
    train/forest/a.jpg, test/water/...   given splits with class folders inside

With a table of labels (``label_table``), folders give no classes, and splits only where the table gives none.

A folder called unlabelled (or unlabeled) beside class folders is not a class. Its tiles train the generator and the
backbone, and are scored nowhere.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Shaped
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Form, Unusable, form_of
from gcl_custom.imagery.label_table import read_labels
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kinds import SINGLE_LABEL, LabelKind, kind_in_recipe, kind_in_table
from gcl_custom.recipe.imagery import Card, DataSettings

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".jp2")
ALIASES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}

FORM_SAMPLE = 256
"""Number of headers that decide the number of bands and the integer type, spread evenly over the paths."""
UNLABELLED = {"unlabelled", "unlabeled"}
IMAGES = {"images", "image", "imgs", "img", "tiles", "patches", "rgb"}
MASKS = {"masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "segmentations", "gt"}
"""Names of folders of pictures, and of what is drawn over them, in data sets of segmentation."""
STRAY = 0.05
"""Largest share of images beside the class folders, or deeper in them, that is taken for a slip; one always is."""


class FoundTile(NamedTuple):
    source: Source
    split: SplitName | None
    label: str | None
    """Name of the class; several names are joined by semicolons, as in a table of labels."""


@dataclass(frozen=True)
class Layout:
    """The tiles of a root, sorted by path, and notes for the user on how they were found."""

    tiles: list[FoundTile]
    classes: list[str]
    """In label order; empty if the tiles are unlabelled."""
    notes: list[str]
    kind: LabelKind = SINGLE_LABEL
    """Of the labels; folders give a tile one class."""

    @property
    def splits(self) -> list[SplitName]:
        """The splits that the folders give."""
        given = {tile.split for tile in self.tiles}
        return [name for name in SPLITS if name in given]


def layout_of(data: DataSettings, card: Card | None) -> Layout:
    """Find the images of a recipe; raises as ``find_tiles`` does."""
    return find_tiles(Path(data.root), card, data.labels, kind_in_recipe(data))


def find_tiles(root: Path, card: Card | None, labels: str | None = None, kind: LabelKind | None = None) -> Layout:
    """Find the images below root, with class and split from the table of labels, the card or the folders.

    Args:
        labels: path of the table, relative to root.
        kind: of the table's labels; without it, the table itself shows it.

    Raises:
        UserError: root is missing, holds no image, or lacks the folders that the card states.
    """
    if not root.is_dir():
        raise UserError(
            f"data.root: there is no folder {root} (looked for from {Path.cwd()}). "
            f"Give the folder of your images, for example --set data.root=/path/to/images"
        )
    images, others = walk(root, root / labels if labels else None)
    if not images:
        raise UserError(
            f"data.root: {root} holds no image (other files: {others}). An image ends in {' '.join(SUFFIXES)}, "
            f"and may lie in folders of any depth"
        )
    notes = [f"files that are no images by their names or kind, passed over: {others}"] if others else []
    folders = _split_folders(root, card)
    kept = [image for path in images if (image := _in_split(path, folders))]
    if len(kept) < len(images):
        notes.append(f"images outside {', '.join(folders.values())}, left out: {len(images) - len(kept)}")
    if not any(split in (None, "train") for _, split, _ in kept):
        raise UserError(f"data.root: {root / folders['train']}, the folder of the train split, holds no image")

    if labels is not None:
        return _by_table(root / labels, kept, notes, kind)
    taught = [inner for _, split, inner in kept if split in (None, "train")]
    if card is None:
        _refuse_masks(root, [path for path, _, _ in kept])
        stated, remarks = _recognised(taught, STRAY)
        notes += remarks
    else:
        stated = _recognised(taught, 0.0)[0] if card.classes == "folders" else card.classes or []
    if card and card.classes == "folders" and not stated:
        raise UserError(
            f"data.root: card {card.name} says that folders are classes, so every image of {root} must lie exactly one "
            f"folder down (below the split's folder, if there is one), in two folders or more"
        )
    found = {_folder(inner) for inner in taught}
    classes = [name for name in stated if name in found]
    notes += [f"class {name}: no image in the train split, so it is left out" for name in stated if name not in found]
    if classes and (card is None or card.classes == "folders"):
        empty = sorted(
            path.name
            for path in (root / folders.get("train", "")).iterdir()
            if path.is_dir() and path.name not in found | UNLABELLED
        )
        notes += [f"class folder {name}: empty, so it is no class" for name in empty if not name.startswith(".")]
    if stated and not classes:
        raise UserError(
            f"{root} holds none of the class folders that the card states: {', '.join(stated)}. If the card is of "
            f"another data set, take data.card out of the recipe: the folders then say the classes"
        )
    known = set(classes)
    deep = card is not None  # a card says that whatever lies in a folder is of its class
    tiles = [
        FoundTile(Source(path), split, inner.split("/")[0] if _in_class(inner, known, deep) else None)
        for path, split, inner in kept
    ]
    if classes and (unlabelled := sum(tile.label is None for tile in tiles)):
        notes.append(f"images outside the class folders, used without a label: {unlabelled}")
    return Layout(tiles, classes, notes)


def _by_table(
    path: Path, images: Sequence[tuple[str, SplitName | None, str]], notes: list[str], kind: LabelKind | None
) -> Layout:
    rows = read_labels(path, [image for image, _, _ in images])
    tiles = []
    for image, split, _ in images:
        row, source = rows.get(image), Source(image)
        tiles.append(FoundTile(source, row.split or split, row.labels) if row else FoundTile(source, split, None))
    if len(rows) < len(tiles):
        notes = [*notes, f"images without a row in {path.name}, used without a label: {len(tiles) - len(rows)}"]
    texts = [row.labels for row in rows.values()]
    kind = kind or kind_in_table(texts)
    return Layout(tiles, sorted({name for text in texts for name in kind.names(text)}), notes, kind)


def labels_of(
    tiles: Sequence[FoundTile], classes: Sequence[str], kind: LabelKind
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes with a tile in the train split, and each tile's label among them, as it is stored."""
    taught = {name for tile in tiles if tile.split in (None, "train") for name in kind.names(tile.label)}
    kept = [name for name in classes if name in taught]
    return kept, kind.encode([tile.label for tile in tiles], kept)


def common_form(root: Path, tiles: Sequence[FoundTile], bands: Sequence[str] | None) -> Form:
    """Bands and integer type of the data set: the most common of a sample. Bands that have names take precedence.

    Raises:
        UserError: no file of the sample is an image.
    """
    step = max(1, len(tiles) // FORM_SAMPLE)
    forms: Counter[Form] = Counter()
    reasons: Counter[str] = Counter()
    for tile in tiles[::step]:
        try:
            forms[form_of(root / tile.source.path)] += 1
        except Unusable as problem:
            reasons[str(problem)] += 1
    if not forms:
        raise UserError(
            f"data.root: none of {sum(reasons.values())} files of {root} can be read, for example {tiles[0].source}: "
            f"{reasons.most_common(1)[0][0]}. Tiles are JPEG, PNG, WebP, TIFF or JPEG 2000"
        )
    form = max(sorted(forms), key=lambda form: forms[form])
    return form._replace(bands=len(bands)) if bands else form


def is_rgb(bands: Sequence[str] | None, form: Form) -> bool:
    """Whether the bands are red, green and blue: their names say so, or without names there are three."""
    return [band.lower() for band in bands] == ["red", "green", "blue"] if bands else form.bands == 3


def walk(root: Path, table: Path | None = None) -> tuple[list[str], int]:
    """List the relative paths of the images, sorted, and count the other files. Hidden ones are skipped.

    A pipe, a device or a link to one counts as another file, whatever its name: reading it may never end. A link whose
    file is gone is listed, so that reading it says so.

    Args:
        table: path of the table of labels; it may lie below root, and is not counted.
    """
    images, others, seen = [], 0, set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(SUFFIXES) and not _is_special(Path(folder) / name):
                images.append((Path(folder) / name).relative_to(root).as_posix())
            elif table is None or name != table.name or (Path(folder) / name).resolve() != table.resolve():
                others += 1
    return sorted(images), others


def _is_special(path: Path) -> bool:
    """Whether it is no regular file, but a pipe or a device, or a link to one."""
    return not path.is_file() and path.exists()


def _split_folders(root: Path, card: Card | None) -> dict[SplitName, str]:
    """Folder of each given split, relative to root; empty if folders give no splits."""
    if card is not None:
        stated = {name: card.splits[name] for name in SPLITS if name in card.splits} if card.splits else {}
        if stated and "train" not in stated:
            raise UserError(f"card {card.name}: splits must name the folder of train, or be left out")
        for name, folder in stated.items():
            if not (root / folder).is_dir():
                raise UserError(
                    f"data.root: card {card.name} says that the {name} split is {root / folder}, which is no folder"
                )
        return stated
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    folders: dict[SplitName, str] = {}
    for split, aliases in ALIASES.items():
        given = [name for name in names if name.lower() in aliases]
        if len(given) > 1:
            raise UserError(
                f"data.root: {root} has several folders for the {split} split: {', '.join(given)}. Keep one"
            )
        if given:
            folders[split] = given[0]
    return folders if "train" in folders and len(folders) > 1 else {}


def _in_split(path: str, folders: dict[SplitName, str]) -> tuple[str, SplitName | None, str] | None:
    """(path, split, path below the split's folder), or None if the path lies outside all of them."""
    if not folders:
        return path, None, path
    for split, folder in folders.items():
        if path.startswith(f"{folder}/"):
            return path, split, path[len(folder) + 1 :]
    return None


def _folder(inner: str) -> str | None:
    """The first folder of a path; None for a bare file name."""
    first, separator, _ = inner.partition("/")
    return first if separator else None


def _in_class(inner: str, classes: set[str], deep: bool) -> bool:
    """Whether an image lies in a class folder, at any depth or directly."""
    return _folder(inner) in classes and (deep or inner.count("/") == 1)


def _recognised(inner: list[str], stray: float) -> tuple[list[str], list[str]]:
    """Class folders in alphabetical order, and what to tell the user of images that lie elsewhere.

    There are none unless there are two folders with images directly in them, and nearly all images lie so.

    Args:
        stray: share of the images that may lie elsewhere. One may, unless it is 0.
    """
    folders = sorted({path.partition("/")[0] for path in inner if path.count("/") == 1} - UNLABELLED)
    if len(folders) < 2:
        return [], []
    elsewhere = [path for path in inner if path.count("/") != 1]
    few = len(elsewhere) <= max(1, stray * len(inner)) if stray else not elsewhere
    examples = ", ".join(elsewhere[:3]) + (", ..." if len(elsewhere) > 3 else "")
    if few:
        notes = [f"{len(elsewhere)} images lie not in a class folder but elsewhere: {examples}"] if elsewhere else []
        return folders, notes
    return [], [
        f"no classes: {len(folders)} folders hold images, but {len(elsewhere)} of {len(inner)} images lie elsewhere, "
        f"such as {examples}. If folders are classes, move these away"
    ]


def _refuse_masks(root: Path, images: Sequence[str]) -> None:
    """Refuse folders of segmentation: masks would become tiles, and "masks" a class."""
    folders = {parent for path in images for parent in Path(path).parents}
    for mask in sorted(folder for folder in folders if folder.name.lower() in MASKS):
        beside = sorted(other for other in folders if other.parent == mask.parent and other.name.lower() in IMAGES)
        if beside:
            raise UserError(
                f"data.root: {root / mask} lies beside {root / beside[0]}, as in data sets of segmentation. Masks are "
                f"no tiles: give the folder of the images, for example --set data.root={root / beside[0]}, or move "
                f"the masks away"
            )
