"""Labels that lie below a folder of images in a file of their own: a table, polygons, or a raster of class numbers."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rasterio.errors import RasterioError

from gcl_custom.counted import examples
from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.folder_walk import folders, walk
from gcl_custom.imagery.label_table import read_labels
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.scenes.polygons import read_polygons
from gcl_custom.imagery.scenes.scene import open_raster
from gcl_custom.recipe.imagery import POLYGONS, RASTERS

TABLES = (".csv", ".parquet")
MOST_SCENES = 200
"""Most rasters that are opened to find one of labels. With more there are hardly any scenes among them."""
MOST_CLASSES = 64
"""Most different numbers of a raster of labels."""
SIDE = 512
"""Pixels a side of the small version of a raster in which its numbers are counted."""
CALLED = re.compile(r"label|class|cover|truth|crop|lulc|annot|target", re.IGNORECASE)
"""Words in the name of labels: without one, a raster beside each scene may as well be a mask of clouds."""


class FoundLabels(NamedTuple):
    given: str | None
    """Value for data.labels; None if nothing can be used as it is."""
    reason: str


def labels_below(root: Path, scenes: bool) -> FoundLabels | None:
    """Labels below a root; None where nothing looks like any.

    Args:
        scenes: whether its rasters are cut into windows, which polygons and rasters label.
    """
    images = walk(root).images
    found = [*_polygons(root), *_rasters(root, images)] if scenes else []
    found += _tables(root, images)
    usable = [each for each in found if each.given]
    if len(usable) == 1:
        return usable[0]
    if usable:
        names = ", ".join(str(each.given) for each in usable)
        return FoundLabels(None, f"{names}: each of them may give labels, and one can: name it in labels")
    return FoundLabels(None, ". ".join(each.reason for each in found)) if found else None


def _below(root: Path, ends: Sequence[str]) -> Iterator[str]:
    """Files below the root with such names; those that links lead out of it to are no labels for a recipe."""
    for folder, names in folders(root):
        for name in names or ():  # none of a run, whose tables are no labels
            path = folder / name
            if name.lower().endswith(tuple(ends)) and _inside(path, root):
                yield path.relative_to(root).as_posix()


def _inside(path: Path, root: Path) -> bool:
    """Whether a path is a file below the root. ``Path.resolve`` raises where a link leads to itself."""
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def _tables(root: Path, images: Sequence[str]) -> Iterator[FoundLabels]:
    for name in _below(root, TABLES):
        try:
            rows = read_labels(root / name, images)
        except UserError:
            columns = "columns file and labels, with a row a file"
            yield FoundLabels(None, f"{name} is no table of labels as it is: one has the {columns}")
        else:
            yield FoundLabels(name, f"a table with labels of {len(rows):,} files")


def _polygons(root: Path) -> Iterator[FoundLabels]:
    for name in _below(root, POLYGONS):
        try:
            found = read_polygons(root / name)
        except UserError as error:
            yield FoundLabels(None, f"{name} gives no labels as it is ({str(error).removeprefix('data.labels: ')})")
        else:
            classes = sorted(set(found.classes))
            said = f"{len(found.classes):,} polygons of {len(classes)} classes ({examples(classes)})"
            yield FoundLabels(name, f"{said}; the class of a window is the one that covers half of it or more")


def _rasters(root: Path, images: Sequence[str]) -> Iterator[FoundLabels]:
    """A raster of class numbers among scenes of more bands, or one beside each of them."""
    names = [name for name in images if name.lower().endswith(RASTERS)]
    if len(names) > MOST_SCENES:
        return
    single: list[str] = []
    others: list[str] = []
    for name in names:
        try:
            with open_raster(root / name) as dataset:
                (single if dataset.count == 1 else others).append(name)
        except (NoScene, RasterioError, OSError):  # reading the scenes says so
            continue
    single = [name for name in single if others and _holds_classes(root / name)]
    endings = {ending for name in single for other in others if (ending := _ending(name, other))}
    if len(single) == 1 and not (endings and len(others) > 1):
        yield FoundLabels(single[0], "a raster of class numbers; the class of a window covers half of it or more")
    elif len(endings) == 1 and CALLED.search(ending := endings.pop()):
        said = f"{len(single)} of {len(others)} scenes have a raster of class numbers beside them"
        yield FoundLabels(f"*{ending}", f"{said}; the class of a window covers half of it or more")
    elif single:
        yield FoundLabels(
            None,
            f'rasters of one band lie among the scenes, such as {examples(single)}: name one in labels, or labels: "*'
            f'_END.tif" where each scene has its own beside it, or keep them elsewhere',
        )


def _ending(name: str, scene: str) -> str | None:
    """What a name has beyond that of a scene in the same folder."""
    stem = scene[: scene.rindex(".")]
    rest = name.removeprefix(stem)
    return rest if rest != name and rest[:1] in "_-" and "/" not in rest else None


def _holds_classes(path: Path) -> bool:
    """Whether a raster of one band holds few whole numbers."""
    with open_raster(path) as dataset:
        if np.dtype(dataset.dtypes[0]).kind not in "iu":
            return False
        step = max(1, max(dataset.width, dataset.height) // SIDE)
        try:
            small = dataset.read(1, out_shape=(max(1, dataset.height // step), max(1, dataset.width // step)))
        except RasterioError:
            return False
    return len(np.unique(small)) <= MOST_CLASSES
