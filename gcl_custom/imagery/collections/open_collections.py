"""Which roots are collections, and opening them: once for all threads, and again only when their files change.

A root is a collection if it is a file of one, a pattern with braces such as ``train-{000..009}.tar``, or a folder that
holds such files and no image.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.archives import CLASS_NAMES, Archives
from gcl_custom.imagery.collections.collection import IMAGE_SUFFIXES, Collection
from gcl_custom.imagery.collections.collection_names import (
    ARCHIVES,
    NPY,
    NPZ,
    PARQUET,
    SUFFIXES,
    before_braces,
    expanded,
    is_pattern,
)
from gcl_custom.imagery.collections.flat_bytes import PlainBytes
from gcl_custom.imagery.collections.folder_walk import folders
from gcl_custom.imagery.collections.parquet_files import ParquetFiles
from gcl_custom.imagery.collections.stacks import Array, Stacks, arrays_of_npz, is_stack


def files_of(root: Path) -> dict[str, Path]:
    """The files of a collection, by their path relative to the root; the empty path for a root that is a file.

    Raises:
        UserError: a file of a pattern is missing, or the file is of a form that is not read.
    """
    if is_pattern(root):
        top = Path(*before_braces(root))
        paths = [Path(text) for text in expanded(str(root))]
        if missing := [path for path in paths if not path.is_file()]:
            raise UserError(f"data.root: {root} stands for {len(paths):,} files; there is no {missing[0]}")
        return {path.relative_to(top).as_posix(): path for path in paths}
    if root.is_file():
        if not root.name.lower().endswith(SUFFIXES):
            raise UserError(
                f"data.root: {root} is a file of another form. Tiles may lie in a folder, or in {' '.join(SUFFIXES)}"
            )
        return {"": root}
    return {path.relative_to(root).as_posix(): path for path in _below(root)} if root.is_dir() else {}


def _below(root: Path) -> list[Path]:
    """The files of collections below a folder, without hidden ones; none if it holds an image.

    An .npy counts only where there are stacks.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        if any(name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "." for name in names):
            return []
        real = os.path.realpath(folder)
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if real not in seen else []
        if real in seen:  # by a link to a folder above
            continue
        seen.add(real)
        found += [Path(folder) / name for name in sorted(names) if name[0] != "." and name.lower().endswith(SUFFIXES)]
    stacks = any(is_stack(path.name) for path in found if path.name.lower().endswith(NPY))
    return [path for path in found if path.is_file() and (stacks or not path.name.lower().endswith(NPY))]


_opened: OrderedDict[str, tuple[object, Collection]] = OrderedDict()
_lock = threading.Lock()
MOST_OPEN = 4
"""Most collections that stay open in a process."""


def collection_at(root: Path) -> Collection | None:
    """The collection that a root is; None for a folder that holds images or no file of a collection.

    Raises:
        UserError: there is no such root, or its files are damaged or do not belong together.
    """
    files = files_of(root)
    if not files:
        return None
    names = class_names(root, files)
    state = [(str(path), *state_of(path)) for path in (*files.values(), *([names] if names else []))]
    key = os.path.abspath(root)
    with _lock:
        if key not in _opened or _opened[key][0] != state:
            _opened[key] = (state, _open(root, files, names))
        _opened.move_to_end(key)
        while len(_opened) > MOST_OPEN:
            _opened.popitem(last=False)
        return _opened[key][1]


def is_of_arrays(root: Path) -> bool:
    """Whether a root is a folder that would be a collection of arrays, each of which may be a scene instead."""
    return root.is_dir() and all(path.name.lower().endswith(NPY) for path in files_of(root).values())


def holding(root: Path, path: str) -> Collection | None:
    """The collection that a tile lies in; None for one that is a file below a folder."""
    known = _opened.get(os.path.abspath(root))
    if known is None and (not root.is_dir() or _inside_file(root, path)):
        return collection_at(root)
    return known[1] if known and known[1].holds(path) else None


def _inside_file(root: Path, path: str) -> bool:
    parts = path.split("/")
    return any(
        part.lower().endswith(SUFFIXES) and (root / "/".join(parts[: number + 1])).is_file()
        for number, part in enumerate(parts[:-1])
    )


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; both are 0 for one that is gone, such as behind a dangling link."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def states_of_files(root: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of all files that a root is made of, as ``folders`` finds them. None is opened.

    Raises:
        UserError: a file of a pattern is missing.
    """
    if not root.is_dir():
        files = files_of(root)
        names = class_names(root, files) if files else None
        return [(str(path), *state_of(path)) for path in (*files.values(), *([names] if names else []))]
    return [(str(folder / name), *state_of(folder / name)) for folder, inside in folders(root) for name in inside or ()]


def class_names(root: Path, files: Mapping[str, Path]) -> Path | None:
    """The file of class names beside the first file of a collection, or in a folder above it up to the root."""
    first = next(iter(files.values()))
    for folder in first.parents:
        for name in CLASS_NAMES:
            if (folder / name).is_file():
                return folder / name
        if folder in (root, first.parent if "" in files else root):
            break
    return None


def _open(root: Path, files: Mapping[str, Path], names: Path | None) -> Collection:
    for suffixes, build in KINDS.items():
        ours = {prefix: path for prefix, path in files.items() if path.name.lower().endswith(suffixes)}
        if len(ours) == len(files):
            try:
                return build(root, files, names)
            except OSError as error:
                raise UserError(f"data.root: {root} cannot be opened ({error.strerror or error})") from None
    shown = ", ".join(sorted(files)[:4])
    raise UserError(
        f"data.root: {root} holds files of several kinds, such as {shown}, and they may hold the same tiles. Give one "
        f"kind: a file, a folder of it, or a pattern such as train-{{000..009}}.tar"
    )


def _archives(root: Path, files: Mapping[str, Path], names: Path | None) -> Collection:
    return Archives(files, _lines(names) if names else None)


def _parquet(root: Path, files: Mapping[str, Path], names: Path | None) -> Collection:
    return ParquetFiles(files)


def _arrays(root: Path, files: Mapping[str, Path], names: Path | None) -> Collection:
    """Arrays of their own, or in one .npz; of several .npz, each would be a set of its own."""
    if all(path.name.lower().endswith(NPY) for path in files.values()):
        arrays = {prefix: Array(str(path), PlainBytes(path)) for prefix, path in files.items()}
        return Stacks(arrays, lambda name: files[name], root)
    if len(files) > 1:
        raise UserError(f"data.root: {root} holds several files of arrays, {', '.join(files)}: give one of them")
    (path,) = files.values()
    return Stacks(arrays_of_npz(path), lambda name: path, root)


KINDS: dict[tuple[str, ...], Callable[[Path, Mapping[str, Path], Path | None], Collection]] = {
    ARCHIVES: _archives,
    PARQUET: _parquet,
    (*NPZ, *NPY): _arrays,
}
"""Ends of the names of files, and what opens such files together."""


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.root: the class names in {path} cannot be read ({error})") from None
