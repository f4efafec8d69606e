"""Finding the tiles of a folder, and what their folders say of them: class, split, or nothing.

The layout is recognised (``layouts``), or a card states it. With a table of labels (``label_table``), folders give no
classes, and splits only where the table gives none.

A folder called unlabelled (or unlabeled) beside class folders is not a class. Its tiles train the generator and the
backbone, and are scored nowhere.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from gcl_custom.counted import counted, examples
from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.band_files import refuse_band_files
from gcl_custom.imagery.collections.collection import Collection
from gcl_custom.imagery.collections.collection_names import NPY
from gcl_custom.imagery.collections.folder_walk import Walked, suffixes, walk
from gcl_custom.imagery.collections.open_collections import collection_at, is_of_arrays
from gcl_custom.imagery.decoding import Form, Unusable
from gcl_custom.imagery.label_table import LabelRow, read_addresses, read_labels, read_lists, table_below
from gcl_custom.imagery.layouts import (
    UNLABELLED,
    Pairs,
    Placed,
    Reading,
    class_folders,
    elsewhere,
    masks_of_images,
    reading,
    refuse_masks,
    split_named,
    with_splits,
    without_thumbnails,
)
from gcl_custom.imagery.read_tile import cut, header_of, labels_of_windows
from gcl_custom.imagery.scenes.array_scenes import axes_in_words
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import SPLITS, SplitName, spread
from gcl_custom.imagery.values.bands import with_bands
from gcl_custom.measures.label_kind import LabelKind, NamedKind
from gcl_custom.measures.label_kinds import MASKS, MULTI_LABEL, SINGLE_LABEL, kind_in_recipe, kind_in_table
from gcl_custom.recipe.imagery import Card, DataSettings, ScenesSettings, SplitLists

FORM_SAMPLE = 256
"""Most headers that decide the number of bands and the integer type, spread evenly over the paths."""


class FoundTile(NamedTuple):
    source: Source
    split: SplitName | None
    label: str | None
    """Name of the class; several names are joined by semicolons, as in a table of labels. Of a dense kind, the path of
    the mask."""


@dataclass(frozen=True)
class Layout:
    """The tiles of a root, sorted by path, and notes for the user on how they were found."""

    tiles: list[FoundTile]
    classes: list[str]
    """In label order; empty if the tiles are unlabelled, or if the values in masks are the classes."""
    notes: list[str]
    kind: LabelKind = SINGLE_LABEL
    """Of the labels; folders give a tile one class."""

    @property
    def splits(self) -> list[SplitName]:
        """The splits that the folders give."""
        given = {tile.split for tile in self.tiles}
        return [name for name in SPLITS if name in given]


def layout_of(data: DataSettings, card: Card | None) -> Layout:
    """Find the tiles of a recipe, with the splits that it takes as given; raises as ``find_tiles`` does."""
    stating = card if card and card.layout == "stated" else None
    layout = find_tiles(data, stating)
    if data.split.lists:
        layout = _listed(layout, Path(data.root), data.split.lists)
    elif data.split.chance:
        layout = replace(layout, tiles=[tile._replace(split=None) for tile in layout.tiles])
    if layout.kind.dense:
        stated = card.classes if card and isinstance(card.classes, list) else []
        layout = replace(layout, classes=data.mask_classes or stated)
    elif card and card.classes and not stating:
        raise UserError(
            f"card {card.name}: with layout: recognised, classes name the values of masks, and {data.root} has none. "
            f"Take classes out, or layout, so that the card states the class folders"
        )
    elif data.mask_classes and not data.labels_on_ground:
        raise UserError(f"data.mask_classes: no masks are found in {data.root}. Name their folder: data.masks")
    return _windows(layout, data) if data.scenes else layout


def _windows(found: Layout, data: DataSettings) -> Layout:
    """The windows of scenes. The split of a file, its label or its mask are those of its windows."""
    files = {tile.source.path: tile for tile in found.tiles}
    tiles = [files[source.path]._replace(source=source) for source in cut(Path(data.root), list(files), data)]
    axes = axes_in_words([Path(data.root) / path for path in files if path.lower().endswith(NPY)])
    notes = [*found.notes, *([axes] if axes else [])]
    if not data.labels_on_ground:
        return replace(found, tiles=tiles, notes=notes)
    labels = labels_of_windows(Path(data.root), [tile.source for tile in tiles], data)
    tiles = [tile._replace(label=labels.of(*tile.source)) for tile in tiles]
    return replace(found, tiles=tiles, classes=labels.classes, notes=[*notes, *labels.notes])


def _listed(found: Layout, root: Path, lists: SplitLists) -> Layout:
    """The tiles that lists name, or all if no list says which are for training; raises as ``read_lists`` does."""
    splits, notes = read_lists(root, lists.given, [tile.source.path for tile in found.tiles])
    tiles = [tile._replace(split=splits[tile.source.path]) for tile in found.tiles if tile.source.path in splits]
    return replace(found, tiles=tiles, notes=[*found.notes, *notes])


class _Table(NamedTuple):
    """A table of labels."""

    name: str
    """As messages call it."""
    path: Path
    content: bytes | None = None
    """Its bytes, where it is no file but lies in a collection."""


def find_tiles(data: DataSettings, card: Card | None) -> Layout:
    """Find the images below the root, with class and split from the table of labels, masks, the card or the folders.

    Scenes are not cut here: a tile is a whole file, and gets no label that polygons or a raster give its windows. Masks
    that ``data.masks`` does not name are looked for where neither ``data.labels`` nor the card gives labels.

    Args:
        card: one that states the layout.

    Raises:
        UserError: the root is missing, holds no image, or lacks the folders that the card states.
    """
    root = Path(data.root)
    collection = _collection(root, data.scenes)
    labels = None if data.labels_beside else data.labels
    table = _table(root, collection, labels)
    if collection and table is None and (told := _told(root, collection, labels, kind_in_recipe(data))):
        return told
    images, notes = _images(root, collection, table, data.scenes)
    looked_for = data.masks is not None or not (data.labels or (card and card.classes))
    pairs = masks_of_images(root, images, data.masks) if looked_for else None
    images = pairs.images if pairs else images
    read = _read(root, images, card, collection)
    _require_train(root, read, card)
    rows = read_labels(table.path, images, table.content) if table and not data.labels_on_ground else {}
    notes += _outside(images, read, rows)
    if data.labels_on_ground:
        return Layout([FoundTile(Source(path), split, None) for path, split, *_ in read.images], [], notes)
    if table:
        return _by_table(table.name, rows, read.images, notes, kind_in_recipe(data))
    return _by_masks(pairs, read.images, notes) if pairs else _by_folders(root, read, card, notes)


def _collection(root: Path, scenes: ScenesSettings | None) -> Collection | None:
    """The collection that a root is; None for a folder of images or of scenes, which may be arrays."""
    collection = None if scenes and is_of_arrays(root) else collection_at(root)
    if collection is None and not root.is_dir():
        raise UserError(
            f"data.root: there is no folder {root} (looked for from {Path.cwd()}). "
            f"Give the folder of your images, for example --set data.root=/path/to/images"
        )
    return collection


def _table(root: Path, collection: Collection | None, labels: str | None) -> _Table | None:
    """The table of labels; None where none is named, or the collection has no such file."""
    if labels is None:
        return None
    if collection is None:
        return _Table(Path(labels).name, table_below(root, labels))
    content = collection.table(labels)
    return None if content is None else _Table(Path(labels).name, root / labels, content)


def _images(
    root: Path, collection: Collection | None, table: _Table | None, scenes: ScenesSettings | None
) -> tuple[list[str], list[str]]:
    """Paths of the images, sorted, those on other machines among them, and notes on what was passed over."""
    if collection:
        found, notes = Walked(list(collection.images), 0, [], []), [*collection.notes]
    else:
        found = walk(root, table.path if table else None, scenes is not None)
        remote = read_addresses(root, scenes.remote.addresses) if scenes and scenes.remote else []
        found, notes = found._replace(images=sorted([*found.images, *remote])), found.notes
    shut = "".join(f". {note}" for note in found.notes[-1:] if found.closed)
    if not found.images:
        raise UserError(
            f"data.root: {root} holds no image (other files: {found.others}). An image ends in "
            f"{' '.join(suffixes(scenes is not None))}, and may lie in folders of any depth{shut}"
        )
    images, small = without_thumbnails(found.images)
    if small:
        notes.append(f"images in folders of thumbnails, passed over: {len(small)}, such as {examples(small)}")
    return images, notes


def _read(root: Path, images: Sequence[str], card: Card | None, collection: Collection | None) -> Reading:
    """What folders say of images, or what stands for folders in a collection."""
    paths = {collection.placed(path) if collection else path: path for path in images}
    shown = [*paths]
    read = reading(shown) if card is None else with_splits(shown, _stated_splits(root, card, collection is None))
    return replace(read, images=[image._replace(path=paths[image.path]) for image in read.images])


def _outside(images: Sequence[str], read: Reading, rows: Mapping[str, LabelRow]) -> list[str]:
    """What to tell the user of images outside the splits' folders that no row of a table takes in."""
    left = sorted(set(images).difference(rows, (image.path for image in read.images)))
    folders = ", ".join(read.splits.values())
    return [f"images outside {folders}, left out: {len(left)}, such as {examples(left)}"] if left else []


def _told(root: Path, collection: Collection, labels: str | None, kind: NamedKind | None) -> Layout | None:
    """The tiles of a collection that says their labels and splits by other means than folders; None if it does not."""
    told = collection.labelled(labels)
    if told is None and labels is not None:
        raise UserError(f"data.labels: there is no file {labels} in {root}, nor labels beside its tiles")
    if told is None:
        return None
    splits = {
        path: next((split for word in found.words if (split := split_named(word))), None)
        for path, found in told.told.items()
    }
    given, notes = set(splits.values()) - {None}, [*collection.notes, *told.notes]
    if "train" not in given or len(given) == 1:
        splits = {}
    left = [path for path in collection.images if splits and splits[path] is None]
    if left:
        notes.append(f"tiles in files of no split, left out: {len(left)}, such as {examples(left)}")
    tiles = [
        FoundTile(Source(path), splits.get(path), told.told[path].label)
        for path in collection.images
        if not splits or splits[path]
    ]
    if told.classes and (unlabelled := sum(tile.label is None for tile in tiles)):
        notes.append(f"tiles without a label: {unlabelled}")
    return Layout(tiles, list(told.classes), notes, kind or (MULTI_LABEL if told.several else SINGLE_LABEL))


def _by_table(
    name: str, rows: Mapping[str, LabelRow], images: Sequence[Placed], notes: list[str], kind: NamedKind | None
) -> Layout:
    """The tiles with the labels and splits of a table's rows; one outside the folders of the splits needs a row."""
    splits = dict.fromkeys(rows) | {image.path: image.split for image in images}
    tiles = []
    for image, split in sorted(splits.items()):
        row, source = rows.get(image), Source(image)
        tiles.append(FoundTile(source, row.split or split, row.labels) if row else FoundTile(source, split, None))
    if len(rows) < len(tiles):
        notes = [*notes, f"images without a row in {name}, used without a label: {len(tiles) - len(rows)}"]
    texts = [row.labels for row in rows.values()]
    kind = kind or kind_in_table(texts)
    return Layout(tiles, sorted({name for text in texts for name in kind.names(text)}), notes, kind)


def _by_masks(pairs: Pairs, images: Sequence[Placed], notes: list[str]) -> Layout:
    """The tiles with the masks that lie beside them."""
    tiles = [FoundTile(Source(path), split, pairs.masks.get(path)) for path, split, *_ in images]
    if unlabelled := sum(tile.label is None for tile in tiles):
        notes = [*notes, f"images without a mask, used without a label: {unlabelled}"]
    return Layout(tiles, [], notes + pairs.notes, MASKS)


def _by_folders(root: Path, read: Reading, card: Card | None, notes: list[str]) -> Layout:
    """The tiles with the classes that folders, or a card, give them."""
    classes, remarks = _recognised(root, read) if card is None else _stated(root, read, card)
    notes, known = notes + remarks, set(classes)
    deep = card is not None  # a card says that whatever lies in a folder is of its class
    tiles = [
        FoundTile(Source(path), split, folder if folder in known and (deep or direct) else None)
        for path, split, folder, direct in read.images
    ]
    if classes and (unlabelled := sum(tile.label is None for tile in tiles)):
        notes.append(f"images outside the class folders, used without a label: {unlabelled}")
    return Layout(tiles, classes, notes)


def common_form(
    root: Path, tiles: Sequence[FoundTile], names: Sequence[str] | None,
    use: Sequence[int | str] | None = None, without: int | None = None, scenes: ScenesSettings | None = None,
) -> Form:  # fmt: skip
    """Bands and type of most files in a sample: of the bands, called ``names``, those to ``use`` and not ``without``.

    Args:
        scenes: how files are cut, if they are.

    Raises:
        UserError: no file of the sample is an image, the files are single bands of the same places, or they lack a band
            that is to be taken.
    """
    paths = list(dict.fromkeys(tile.source.path for tile in tiles))
    forms, reasons = Counter[Form](), Counter[str]()
    for number in spread(torch.arange(len(paths)), FORM_SAMPLE).tolist():
        try:
            forms[header_of(root, Source(paths[number]), without, scenes)] += 1
        except Unusable as problem:
            reasons[str(problem)] += 1
    if not forms:
        raise UserError(
            f"data.root: no file of {root} can be read ({sum(reasons.values())} looked at), for example {paths[0]}: "
            f"{reasons.most_common(1)[0][0]}. Tiles are JPEG, PNG, WebP, TIFF or JPEG 2000"
        )
    kinds: Counter[Form] = Counter()
    for form, count in forms.items():
        kinds[form._replace(names=None)] += count
    common = max(sorted(kinds), key=lambda kind: kinds[kind])
    if common.bands == 1 and (names is None or len(names) > 1):
        refuse_band_files(paths)
    called = {form.names for form in forms if form._replace(names=None) == common}
    return with_bands(common, names, called.pop() if len(called) == 1 else None, use)


def _stated_splits(root: Path, card: Card, in_folders: bool) -> dict[SplitName, str]:
    """Folder of each split that a card gives; the root itself, as the train split, if it gives none."""
    stated = {name: card.splits[name] for name in SPLITS if name in card.splits} if card.splits else {}
    if stated and "train" not in stated:
        raise UserError(f"card {card.name}: splits must name the folder of train, or be left out")
    for name, folder in stated.items():
        if in_folders and not (root / folder).is_dir():
            raise UserError(
                f"data.root: card {card.name} says that the {name} split is {root / folder}, which is no folder"
            )
    return stated


def _require_train(root: Path, read: Reading, card: Card | None) -> None:
    """Refuse splits without a training image: the others would be taken for one set."""
    if read.splits:
        empty = None if read.taught else read.splits["train"]
    else:
        named = (
            {split_named(path.name): path.name for path in root.iterdir() if path.is_dir()}
            if not card and root.is_dir()
            else {}
        )
        empty = named.get("train") if len(named.keys() - {None}) > 1 else None
    if empty:
        raise UserError(f"data.root: {root / empty}, the folder of the train split, holds no image")


def _recognised(root: Path, read: Reading) -> tuple[list[str], list[str]]:
    """The classes, and what to tell the user of images and folders that are of none."""
    refuse_masks(root, [image.path for image in read.images])
    folders, others = class_folders(read.taught), elsewhere(read.taught)
    if not read.classes:
        if len(folders) < 2:
            return [], []
        return [], [
            f"no classes: {len(folders)} folders hold images, but {len(others)} of {len(read.taught)} images lie "
            f"elsewhere, such as {examples(others)}. If folders are classes, move these away"
        ]
    notes = [f"the folders below {read.top} are read as classes"] if read.top else []
    if others:
        notes.append(f"{counted(len(others), 'image lies', 'images lie')} in no class folder: {examples(others)}")
    return read.classes, notes + _empty(root / read.splits.get("train", read.top), read.classes)


def _stated(root: Path, read: Reading, card: Card) -> tuple[list[str], list[str]]:
    """The classes that a card gives and the train split has, and what to tell the user of the others."""
    if card.classes is None:
        return [], []
    folders = class_folders(read.taught)
    if card.classes == "folders":
        if len(folders) < 2 or elsewhere(read.taught):
            raise UserError(
                f"data.root: card {card.name} says that folders are classes, so every image of {root} must lie exactly "
                f"one folder down (below the split's folder, if there is one), in two folders or more"
            )
        return folders, _empty(root / read.splits.get("train", ""), folders)
    found = {image.folder for image in read.taught}
    classes = [name for name in card.classes if name in found]
    if not classes:
        raise UserError(
            f"{root} holds none of the class folders that the card states: {', '.join(card.classes)}. If the card is "
            f"of another data set, take data.card out of the recipe: the folders then say the classes"
        )
    gone = [name for name in card.classes if name not in found]
    return classes, [f"class {name}: no image in the train split, so it is left out" for name in gone]


def _empty(folder: Path, classes: Sequence[str]) -> list[str]:
    """What to tell the user of folders beside those of the classes that hold no image."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    others = set(names).difference(classes, UNLABELLED)
    return [f"class folder {name}: empty, so it is no class" for name in names if name in others and name[0] != "."]
