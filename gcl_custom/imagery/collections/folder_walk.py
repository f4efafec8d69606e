"""Walking a folder: the images below it, by their names, and how many of them may lie elsewhere by a slip."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gcl_custom.counted import examples
from gcl_custom.imagery.collections.collection import IMAGE_SUFFIXES
from gcl_custom.imagery.collections.collection_names import NPY

STRAY = 0.05
"""Largest share of images in other places that is taken for a slip; one always is."""


class Walked(NamedTuple):
    """What lies below a root."""

    images: list[str]
    """Relative paths, sorted."""
    others: int
    """Number of other files."""
    closed: list[str]
    """Folders that the system does not let be read."""
    ours: list[str]
    """Folders of runs and studies."""

    @property
    def notes(self) -> list[str]:
        """What to tell the user of what is not taken."""
        passed = f"files that are no images by their names or kind, passed over: {self.others}"
        made = f"runs of gcl-custom, which are no imagery, passed over: {examples(self.ours)}"
        shut = f"folders that cannot be opened, left out: {examples(self.closed)}"
        return [note for note, there in ((passed, self.others), (made, self.ours), (shut, self.closed)) if there]


def suffixes(scenes: bool) -> tuple[str, ...]:
    """Ends of the names of images, or of scenes, which may be arrays."""
    return (*IMAGE_SUFFIXES, *NPY) if scenes else IMAGE_SUFFIXES


def few(count: int, of: int) -> bool:
    """Whether so many images in other places are a slip."""
    return count <= max(1, STRAY * of)


def walk(root: Path, table: Path | None = None, scenes: bool = False) -> Walked:
    """List the images below a root, and count the other files. Hidden ones are skipped, and runs of the kit.

    A pipe, a device or a link to one counts as another file, whatever its name: reading it may never end. A link whose
    file is gone is listed, so that reading it says so.

    Args:
        table: path of the file of labels; it may lie below root, and is neither an image nor counted.
        scenes: whether images are scenes.
    """
    images, others = [], 0
    closed: list[str] = []
    ours: list[str] = []
    for folder, names in folders(root, lambda error: closed.append(error.filename)):
        if names is None:
            ours.append(folder.relative_to(root).as_posix())
            continue
        for name in names:
            path = folder / name
            if table is not None and name == table.name and path.resolve() == table:
                continue
            if name.lower().endswith(suffixes(scenes)) and not _is_special(path):
                images.append(path.relative_to(root).as_posix())
            else:
                others += 1
    shut = [str(Path(name).relative_to(root)) for name in sorted(closed)]
    return Walked(sorted(images), others, shut, sorted(ours))


def folders(root: Path, closed: Callable[[OSError], object] | None = None) -> Iterator[tuple[Path, list[str] | None]]:
    """Each folder from a root down, once, with the names of its files in order; None for that of a run or a study,
    below which nothing is listed. Hidden folders and files are skipped.

    Args:
        closed: told of a folder that cannot be opened.
    """
    seen = set[str]()
    for folder, inner, names in os.walk(root, onerror=closed, followlinks=True):
        real, is_run = os.path.realpath(folder), folder != str(root) and _is_ours(inner, names)
        if is_run:
            yield Path(folder), None
        if is_run or real in seen:  # by a link to a folder above
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _is_ours(folders: Sequence[str], files: Sequence[str]) -> bool:
    """Whether a folder with these entries is a run, one of its stages or a study: their pictures are no imagery."""
    stage = "stage.json" in files or "working.json" in files
    return stage or {"recipe.yaml", ".lock"} <= set(files) or {"cells", "stages"} <= set(folders)


def _is_special(path: Path) -> bool:
    """Whether it is no regular file, but a pipe or a device, or a link to one."""
    return not path.is_file() and path.exists()
