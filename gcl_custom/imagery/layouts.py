"""What the folders of an image say of it: its split and its class. Names decide; no file is opened.

Below the root, or below the folder that holds nearly all images, four layouts are told apart:

    a.jpg, x/y/b.jpg                      nothing
    forest/a.jpg, water/b.jpg             classes
    train/..., val/...                    splits, with any of the others inside
    forest/train/a.jpg, water/test/b.jpg  classes with splits inside
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcl_custom.counted import examples
from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.folder_walk import few
from gcl_custom.imagery.tile_store import SPLITS, SplitName

WORDS: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
UNLABELLED = {"unlabelled", "unlabeled"}
IMAGES = {"images", "image", "imgs", "img", "tiles", "patches", "rgb"}
OF_MASKS = {"masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "segmentations", "gt"}
"""Names of folders of pictures, and of what is drawn over them, in data sets of segmentation."""
BESIDE = re.compile(rf"[-_ .](?:{'|'.join(sorted(IMAGES | OF_MASKS))})$", re.IGNORECASE)
"""What may stand at the end of a file's name, such as _mask."""
FURTHER = IMAGES | {"set", "data", "dataset", "jpg", "png", "tif"}
"""What may stand beside the word in the name of a split's folder."""
THUMBNAILS = {"thumbs", "thumb", "thumbnails", "thumbnail", "previews", "preview", "quicklooks", "@eadir"}


class Placed(NamedTuple):
    """An image, and what its folders say."""

    path: str
    """Relative to the root."""
    split: SplitName | None
    folder: str | None
    """The first folder below the root or below its split's; None for a bare file name."""
    direct: bool
    """Whether the image lies in that folder itself, not deeper."""


@dataclass(frozen=True)
class Reading:
    """The images in the order of their paths, without those that lie outside all splits.

    Attributes:
        top: the folder, relative to the root, below which the layout begins; "" for the root.
        splits: the folder of each split that folders give, relative to the root, as messages show it.
        classes: in alphabetical order.
    """

    top: str
    splits: Mapping[SplitName, str]
    images: list[Placed]
    classes: list[str]

    @property
    def taught(self) -> list[Placed]:
        """The images of the train split, or all if folders give no splits."""
        return [image for image in self.images if image.split in (None, "train")]


def split_named(name: str) -> SplitName | None:
    """The split that a name says, such as Training, val2017 or test_images."""
    words = [word.rstrip("0123456789") for word in re.split(r"[-_ .]+", name.strip().lower())]
    told = [word for word in words if word and word not in FURTHER]
    return WORDS.get(told[0]) if len(told) == 1 else None


def reading(paths: Sequence[str]) -> Reading:
    """The first layout that fits, from the root down to the folder that holds nearly all images."""
    found = None
    for top in _tops(paths):
        for candidate in (_with_splits(paths, top), _with_splits_inside(paths, top), _plain(paths, top)):
            if candidate and (candidate.splits or candidate.classes):
                return candidate
        found = found or _plain(paths, top)
    assert found is not None, "there is an image"
    return found


def below(path: str, folder: str) -> str | None:
    """The part of a path below a folder; None if it lies elsewhere."""
    if not folder:
        return path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def placed(path: str, split: SplitName | None, inner: str | None) -> Placed:
    """An image by its path below the root or below its split's folder; ``inner`` is None where it lies elsewhere."""
    folder, separator, rest = (inner or "").partition("/")
    return Placed(path, split, folder if separator else None, bool(separator) and "/" not in rest)


def class_folders(images: Sequence[Placed]) -> list[str]:
    """Folders with images directly in them. They are classes if there are two, and nearly all images lie so."""
    return sorted({image.folder for image in images if image.direct and image.folder} - UNLABELLED)


def elsewhere(images: Sequence[Placed]) -> list[str]:
    """Paths of the images that lie neither directly in a folder nor among the unlabelled."""
    return [image.path for image in images if not image.direct and image.folder not in UNLABELLED]


def _classes(images: Sequence[Placed]) -> list[str]:
    folders = class_folders(images)
    return folders if len(folders) > 1 and few(len(elsewhere(images)), len(images)) else []


def _tops(paths: Sequence[str]) -> Iterator[str]:
    """The root, and from there each folder that holds nearly all images."""
    top, inside = "", list(paths)
    while True:
        yield top
        firsts = Counter(inner.partition("/")[0] for path in inside if "/" in (inner := below(path, top) or ""))
        if not firsts:
            return
        folder, count = firsts.most_common(1)[0]
        if not few(len(paths) - count, len(paths)) or folder in UNLABELLED:
            return
        top = f"{top}/{folder}" if top else folder
        inside = [path for path in inside if below(path, top)]


def _plain(paths: Sequence[str], top: str) -> Reading:
    images = [placed(path, None, below(path, top)) for path in paths]
    return Reading(top, {}, images, _classes(images))


def _with_splits(paths: Sequence[str], top: str) -> Reading | None:
    named: dict[SplitName, list[str]] = {}
    for name in sorted({inner.partition("/")[0] for path in paths if "/" in (inner := below(path, top) or "")}):
        if split := split_named(name):
            named.setdefault(split, []).append(f"{top}/{name}" if top else name)
    if "train" not in named or len(named) == 1:
        return None
    for split, names in named.items():
        if len(names) > 1:
            raise UserError(f"data.root: there are several folders for the {split} split: {', '.join(names)}. Keep one")
    splits = {split: named[split][0] for split in SPLITS if split in named}
    return with_splits(paths, splits, top)


def with_splits(paths: Sequence[str], splits: Mapping[SplitName, str], top: str = "") -> Reading:
    """The images in the folders of the splits, which are relative to the root; without splits, all images."""
    folders: list[tuple[SplitName | None, str]] = [*splits.items()] or [(None, "")]
    images = [
        placed(path, split, inner)
        for path in paths
        for split, folder in folders
        if (inner := below(path, folder)) is not None
    ]
    return Reading(top, splits, images, _classes([image for image in images if image.split in (None, "train")]))


def _with_splits_inside(paths: Sequence[str], top: str) -> Reading | None:
    images: list[Placed] = []
    splits: dict[SplitName, str] = {}
    for path in paths:
        parts = (below(path, top) or "").split("/")
        split = split_named(parts[1]) if len(parts) == 3 else None
        if split:
            splits.setdefault(split, f"*/{parts[1]}")
        images.append(Placed(path, split, parts[0] if split else None, split is not None))
    classes = _classes([image for image in images if image.split in (None, "train")])
    if not classes or "train" not in splits or len(splits) == 1:
        return None
    inside = [image for image in images if image.split]
    return Reading(top, {split: splits[split] for split in SPLITS if split in splits}, inside, classes)


# ---------------------------------------------------------------- images and their masks


class Pairs(NamedTuple):
    images: list[str]
    masks: dict[str, str]
    """Image -> mask, for images that have one."""
    notes: list[str]


def pair_masks(paths: Sequence[str], named: str | None) -> Pairs | None:
    """Tell images from masks, and find the mask of each image; None where no folder of masks lies beside images.

    A mask has the name of its image, apart from the suffix, and lies at the same place below its folder, as
    ``train/masks/a/1.png`` belongs to ``train/images/a/1.tif``. Names may end in words such as _mask.

    Args:
        named: the folder of masks as the recipe gives it; without it, names such as masks beside images decide.

    Raises:
        UserError: an image has two masks, or the named folder holds none.
    """
    folders = {"/".join(parts[:depth]) for path in paths for parts in [path.split("/")] for depth in range(len(parts))}
    beside = {folder.rpartition("/")[0] for folder in folders if folder.rpartition("/")[2].lower() in IMAGES}
    wanted = named.strip("/").split("/") if named is not None else None
    masks: dict[tuple[str, ...], list[str]] = {}
    images: list[str] = []
    for path in paths:
        place = _place_of_mask(path, wanted, beside)
        if place is None:
            images.append(path)
        else:
            masks.setdefault(place, []).append(path)
    if not masks:
        if named is not None:
            raise UserError(f"data.masks: no folder {named!r} below data.root holds a file that could be a mask")
        return None
    if double := next((found for found in masks.values() if len(found) > 1), None):
        raise UserError(f"data.masks: {' and '.join(double)} are masks of one image. Keep one of them")
    bare = {(*place[:-1], BESIDE.sub("", place[-1])): found for place, found in masks.items()}
    pairs: dict[str, str] = {}
    for image in images:
        places = list(_places(image))
        found = [masks[place] for place in places if place in masks]
        found += [bare[place] for *way, stem in places if (place := (*way, BESIDE.sub("", stem))) in bare]
        if found:
            pairs[image] = found[0][0]
    used = set(pairs.values())
    alone = sorted(path for (path,) in masks.values() if path not in used)
    notes = [f"masks without an image of their name, passed over: {len(alone)}, such as {examples(alone)}"]
    return Pairs(images, pairs, notes if alone else [])


def _place_of_mask(path: str, wanted: Sequence[str] | None, beside: set[str]) -> tuple[str, ...] | None:
    """Where a mask lies: the folder above those of masks, the folders below, its stem; None if it is no mask."""
    *folders, name = path.split("/")
    length = len(wanted) if wanted else 1
    for start in range(len(folders) - length + 1):
        above = "/".join(folders[:start])
        named = folders[start : start + length]
        if named == wanted if wanted else named[0].lower() in OF_MASKS and above in beside:
            return above, "/".join(folders[start + length :]), name.rpartition(".")[0]
    return None


def _places(image: str) -> Iterator[tuple[str, ...]]:
    """The places that the mask of an image may have, the nearest first."""
    *folders, name = image.split("/")
    stem = name.rpartition(".")[0]
    for depth in range(len(folders), -1, -1):
        for below_it in [depth] if depth == len(folders) else [depth + 1, depth]:
            yield "/".join(folders[:depth]), "/".join(folders[below_it:]), stem


def masks_of_images(root: Path, paths: Sequence[str], masks: str | None) -> Pairs | None:
    """Images and their masks; None where there are none.

    Raises:
        UserError: a folder of masks is named, and no image has one.
    """
    pairs = pair_masks(paths, masks)
    if pairs is None or pairs.masks:
        return pairs
    if masks is not None:
        raise UserError(
            f"data.masks: no image of {root} has a mask. A mask has the name of its image, and lies at the same place "
            f"below its folder: images/a/1.tif, {masks}/a/1.png"
        )
    return None


def refuse_masks(root: Path, images: Sequence[str]) -> None:
    """Refuse masks that belong to no image by their names: they would become tiles, and "masks" a class."""
    folders = {parent for path in images for parent in Path(path).parents}
    for mask in sorted(folder for folder in folders if folder.name.lower() in OF_MASKS):
        beside = sorted(other for other in folders if other.parent == mask.parent and other.name.lower() in IMAGES)
        if beside:
            raise UserError(
                f"data.root: {root / mask} lies beside {root / beside[0]}, as in data sets of segmentation, but "
                f"none of its files has the name of an image, apart from the suffix. Rename them, give the folder of "
                f"the images, for example --set data.root={root / beside[0]}, or move the masks away"
            )


def without_thumbnails(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images, and those in folders of thumbnails, whose pictures lie in the folder above already."""
    holding = {path.rpartition("/")[0] for path in paths}
    small = set()
    for path in paths:
        folders = path.split("/")[:-1]
        for depth, folder in enumerate(folders):
            if folder.lower() in THUMBNAILS and "/".join(folders[:depth]) in holding:
                small.add(path)
    return [path for path in paths if path not in small], sorted(small)
