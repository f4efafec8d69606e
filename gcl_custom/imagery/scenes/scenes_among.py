"""Which files of a folder are scenes: not those that hold the labels of scenes, or masks of clouds."""

from collections.abc import Sequence
from pathlib import Path

from gcl_custom.recipe.imagery import DataSettings


def scenes_among(root: Path, paths: Sequence[str], data: DataSettings) -> list[str]:
    """The paths relative to ``root`` that are scenes, whether this is the root of the recipe or another folder.

    The one raster of labels that a recipe names is known by where it lies, and files beside scenes by their ends.
    """
    mask = data.scenes.cloud.file if data.scenes and data.scenes.cloud else None
    ends = tuple(end for end in (mask, data.labels_beside) if end is not None)
    one = data.labels_on_ground and data.labels_beside is None
    labels = Path(data.root, data.labels or "").resolve() if one else None
    return [path for path in paths if not path.endswith(ends) and (labels is None or (root / path).resolve() != labels)]
