"""Which files of a folder are tiles, and what the folders they lie in say: their class, their split, or nothing.

Four layouts are recognised; a card states one and overrules what would be recognised.

    a.jpg, x/y/b.jpg                     unlabelled, flat or nested
    forest/a.jpg, water/b.jpg            class folders: two or more, every image exactly one folder down
    train/a.jpg, valid/b.jpg             given splits; the validation split may be called val or validation
    train/forest/a.jpg, test/water/...   given splits with class folders inside

With a table of labels (``label_file``), folders are only folders, but for given splits where the table gives none.

Beside class folders, a folder called unlabelled (or unlabeled) is no class: its tiles train the generator and the
backbone, and nothing is scored on them.
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
"""Files whose headers decide the number of bands and the integer type, spread evenly over the paths."""
UNLABELLED = {"unlabelled", "unlabeled"}


class FoundFile(NamedTuple):
    path: str
    """Relative to the root, with forward slashes."""
    split: SplitName | None
    label: str | None
    """A class; of several, their names joined by semicolons, as in a table of labels."""


@dataclass(frozen=True)
class Layout:
    """The images of a root, sorted by path, and what to tell the reader about how they were found."""

    files: list[FoundFile]
    classes: list[str]
    """In label order; empty where the tiles are unlabelled."""
    notes: list[str]
    kind: LabelKind = SINGLE_LABEL
    """Of the labels; folders give a tile one class."""

    @property
    def splits(self) -> list[SplitName]:
        """The splits that the folders give."""
        given = {file.split for file in self.files}
        return [name for name in SPLITS if name in given]


def layout_of(data: DataSettings, card: Card | None) -> Layout:
    """The images of a recipe; raises as find_tiles does."""
    return find_tiles(Path(data.root), card, data.labels, kind_in_recipe(data))


def find_tiles(root: Path, card: Card | None, labels: str | None = None, kind: LabelKind | None = None) -> Layout:
    """The images below root, with class and split as the table of labels, the card or the folders say.

    Args:
        labels: the table, relative to root.
        kind: of the table's labels; without it, as the table itself shows.

    Raises:
        UserError: root is missing or holds no image, or not the folders that the card states.
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
    notes = [f"files that are no images by their names, passed over: {others}"] if others else []
    folders = _split_folders(root, card)
    placed = [place for path in images if (place := _place(path, folders))]
    if len(placed) < len(images):
        notes.append(f"images outside {', '.join(folders.values())}, left out: {len(images) - len(placed)}")
    if not any(split in (None, "train") for _, split, _ in placed):
        raise UserError(f"data.root: {root / folders['train']}, the folder of the train split, holds no image")

    if labels is not None:
        return _by_table(root / labels, placed, notes, kind)
    taught = [inner for _, split, inner in placed if split in (None, "train")]
    stated = _recognised(taught) if card is None or card.classes == "folders" else card.classes
    if card and card.classes == "folders" and not stated:
        raise UserError(
            f"data.root: card {card.name} says that folders are classes, so every image of {root} must lie exactly one "
            f"folder down (below the split's folder, if there is one), in two folders or more"
        )
    found = {_folder(inner) for inner in taught}
    classes = [name for name in stated or [] if name in found]
    notes += [
        f"class {name}: no image in the train split, so it is left out" for name in stated or [] if name not in found
    ]
    if classes and (card is None or card.classes == "folders"):
        empty = sorted(
            path.name
            for path in (root / folders.get("train", "")).iterdir()
            if path.is_dir() and path.name not in found | UNLABELLED
        )
        notes += [f"class folder {name}: empty, so it is no class" for name in empty if not name.startswith(".")]
    if stated and not classes:
        raise UserError(f"{root} holds none of the class folders that the card states: {', '.join(stated)}")
    known = set(classes)
    files = [
        FoundFile(path, split, _folder(inner) if _folder(inner) in known else None) for path, split, inner in placed
    ]
    if classes and (unlabelled := sum(file.label is None for file in files)):
        notes.append(f"images outside the class folders, used without a label: {unlabelled}")
    return Layout(files, classes, notes)


def _by_table(
    path: Path, placed: Sequence[tuple[str, SplitName | None, str]], notes: list[str], kind: LabelKind | None
) -> Layout:
    rows = read_labels(path, [image for image, _, _ in placed])
    files = []
    for image, split, _ in placed:
        row = rows.get(image)
        files.append(FoundFile(image, row.split or split, row.labels) if row else FoundFile(image, split, None))
    if len(rows) < len(files):
        notes = [*notes, f"images without a row in {path.name}, used without a label: {len(files) - len(rows)}"]
    texts = [row.labels for row in rows.values()]
    kind = kind or kind_in_table(texts)
    return Layout(files, sorted({name for text in texts for name in kind.names(text)}), notes, kind)


def labels_of(
    files: Sequence[FoundFile], classes: Sequence[str], kind: LabelKind
) -> tuple[list[str], Shaped[Tensor, "n *_"]]:
    """The classes with a file in the train split, and each file's label among them, as it is stored."""
    taught = {name for file in files if file.split in (None, "train") for name in kind.names(file.label)}
    kept = [name for name in classes if name in taught]
    return kept, kind.encode([file.label for file in files], kept)


def common_form(root: Path, files: Sequence[FoundFile], card: Card | None) -> Form:
    """Bands and integer type of the data set: of the card, and of most of a sample of the files.

    Raises:
        UserError: where no file of the sample is an image.
    """
    step = max(1, len(files) // FORM_SAMPLE)
    forms: Counter[Form] = Counter()
    reasons: Counter[str] = Counter()
    for file in files[::step]:
        try:
            forms[form_of(root / file.path)] += 1
        except Unusable as problem:
            reasons[str(problem)] += 1
    if not forms:
        raise UserError(
            f"data.root: none of {sum(reasons.values())} files of {root} can be read, for example {files[0].path}: "
            f"{reasons.most_common(1)[0][0]}. Tiles are JPEG, PNG, WebP, TIFF or JPEG 2000"
        )
    form = max(sorted(forms), key=lambda form: forms[form])
    return form._replace(bands=len(card.bands)) if card else form


def is_rgb(card: Card | None, form: Form) -> bool:
    """Whether the bands are red, green and blue: as the card says, or as three bands suggest."""
    return [band.lower() for band in card.bands] == ["red", "green", "blue"] if card else form.bands == 3


def walk(root: Path, table: Path | None = None) -> tuple[list[str], int]:
    """Sorted relative paths of the images, and the number of other files; hidden files and folders do not count.

    Args:
        table: of labels, which may lie below root and is none of the other files.
    """
    images, others, seen = [], 0, set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(SUFFIXES):
                images.append((Path(folder) / name).relative_to(root).as_posix())
            elif table is None or name != table.name or (Path(folder) / name).resolve() != table.resolve():
                others += 1
    return sorted(images), others


def _split_folders(root: Path, card: Card | None) -> dict[SplitName, str]:
    """Folder of each given split, relative to root; empty where folders give no splits."""
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


def _place(path: str, folders: dict[SplitName, str]) -> tuple[str, SplitName | None, str] | None:
    """(path, split, path below the folder of the split), or None where it lies outside all of them."""
    if not folders:
        return path, None, path
    for split, folder in folders.items():
        if path.startswith(f"{folder}/"):
            return path, split, path[len(folder) + 1 :]
    return None


def _folder(inner: str) -> str | None:
    """First folder of a path, or None for a bare file name."""
    first, separator, _ = inner.partition("/")
    return first if separator else None


def _recognised(inner: list[str]) -> list[str]:
    """Class folders, in alphabetical order: two or more, and every image lies exactly one folder down."""
    folders = sorted({first for path in inner if (first := _folder(path))} - UNLABELLED)
    return folders if len(folders) > 1 and all(path.count("/") == 1 for path in inner) else []
