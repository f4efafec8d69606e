"""Stacks of tiles as NumPy saves them, in the form of MedMNIST: ``train_images``, ``train_labels``, ``val_images`` ...

A stack (n h w), (n h w c) or (n c h w) lies in an ``.npz`` or in an ``.npy`` of its own. A tile is read from its place,
also where the ``.npz`` is compressed, so no stack is ever whole in memory. Nothing is unpickled.
"""

import ast
import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Shaped

from gcl_custom.arrays import NUMPY
from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.archives import member_start
from gcl_custom.imagery.collections.collection import (
    Collection,
    GivenLabel,
    Labelled,
    Told,
    Unreadable,
    in_words,
    row_name,
)
from gcl_custom.imagery.collections.collection_names import NPY
from gcl_custom.imagery.collections.flat_bytes import RAW, FlatBytes, InflatedBytes, PlainBytes

LONGEST_HEAD = 2**16
IMAGES = {"images", "image", "imgs", "img", "x", "data", "tiles", "pixels"}
LABELS = {"labels", "label", "y", "targets", "target"}
CLASSES = {"classes", "class_names", "classnames", "label_names"}
"""Words in the names of arrays, and what they hold."""
SPLIT_WORDS = {"", "train", "training", "val", "valid", "validation", "test", "testing"}
"""What else may stand in the name of a stack that lies in a folder, or be the name of its folder."""


class Array:
    """An array that is read in parts.

    Raises:
        UserError: it is no array, a damaged one, or one of Python objects.
    """

    def __init__(self, name: str, content: FlatBytes) -> None:
        self.name, self._content = name, content
        try:
            self._start, about = _head(content)
            self.dtype, self.shape = np.dtype(about["descr"]), tuple(int(side) for side in about["shape"])
            columns_first = bool(about["fortran_order"])
        except (Unreadable, ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
            raise UserError(f"data.root: {name} is no array of NumPy, or a damaged one ({error})") from None
        if self.dtype.hasobject or self.dtype.names:
            raise UserError(
                f"data.root: {name} holds Python objects or records, which are not read: save plain numbers"
            )
        if columns_first and sum(side > 1 for side in self.shape) > 1:
            raise UserError(f"data.root: {name} is in Fortran's order: save np.ascontiguousarray of it")

    def part(self, first: int, count: int) -> Shaped[np.ndarray, "count *_"]:
        """Some entries along the first axis, in this machine's order of bytes.

        Raises:
            Unreadable: they are damaged or too large.
        """
        each = math.prod(self.shape[1:])
        content = self._content.exactly(
            self._start + first * each * self.dtype.itemsize, count * each * self.dtype.itemsize
        )
        values = np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def all(self) -> Shaped[np.ndarray, "*_"]:
        try:
            return self.part(0, self.shape[0])
        except Unreadable as problem:
            raise UserError(f"data.root: {self.name}: {problem}") from None


def _head(content: FlatBytes) -> tuple[int, dict[str, Any]]:
    """Where the numbers of an .npy begin, and what its head says of them. The head is a literal, never code."""
    magic = content.exactly(0, 8)
    if not magic.startswith(NUMPY) or magic[6] not in (1, 2, 3):
        raise ValueError("its first bytes are others")
    form = "<H" if magic[6] == 1 else "<I"
    (length,) = struct.unpack(form, content.exactly(8, struct.calcsize(form)))
    if length > LONGEST_HEAD:
        raise ValueError(f"a head of {length:,} bytes")
    start = 8 + struct.calcsize(form)
    about = ast.literal_eval(content.exactly(start, length).decode("utf-8" if magic[6] == 3 else "latin1"))
    if not isinstance(about, dict):
        raise ValueError("its head says nothing")
    return start + length, about


def array_from(content: bytes, types: Sequence[str]) -> Shaped[np.ndarray, "c h w"]:
    """The tile in an .npy's bytes.

    Args:
        types: those that its values may have.

    Raises:
        ValueError: it is no array, a damaged one, or one of Python objects.
        TypeError: it has another number of axes, or values of another type.
    """
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("no array")
    if found.ndim != 3 or found.dtype.name not in types:
        raise TypeError(f"{found.dtype} of shape {found.shape}; only {', '.join(types)} are read")
    return found


def arrays_of_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz, by name.

    Raises:
        UserError: it is none, or one of its arrays is none.
    """
    plain = PlainBytes(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        arrays = {}
        for info in infos:
            if info.filename.lower().endswith(NPY):
                name, start = info.filename[:-4], member_start(plain, info)
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                    raise UserError(f"data.root: {path}: {name} is compressed in an unknown way, or encrypted")
                stored = info.compress_type == zipfile.ZIP_STORED
                content = PlainBytes(path, start) if stored else InflatedBytes(path, start, RAW)
                arrays[name] = Array(f"{path}: {name}", content)
    except (zipfile.BadZipFile, ValueError, Unreadable, NotImplementedError) as error:
        raise UserError(f"data.root: {path} is no .npz, or a damaged one ({error})") from None
    return arrays


def role(name: str) -> tuple[str, str]:
    """What an array holds by its name, images, labels, classes or nothing known, and the rest of the name.

    The rest is the same for a stack and its labels, such as train.
    """
    if name.lower() in CLASSES:
        return "classes", ""
    words = [word for word in re.split(r"[-_. ]+", name.lower()) if word]
    for kind, known in (("images", IMAGES), ("labels", LABELS)):
        if any(word in known for word in words):
            return kind, "_".join(word for word in words if word not in known)
    return "", name


def key(name: str, rest: str) -> tuple[str, str]:
    """The folder of an array, and the rest of its name: the same for a stack and its labels.

    Folders called by a split count as in the rest, the innermost first. What folders hold says nothing: a stack in
    images/ may have its labels in labels/.
    """
    folders = [role(folder)[1] for folder in PurePosixPath(name).parent.parts]
    splits = [folder for folder in folders if folder.lower().rstrip("0123456789") in SPLIT_WORDS - {""}]
    words = dict.fromkeys(word for word in (rest, *reversed(splits)) if word)
    return "/".join(folder for folder in folders if folder and folder not in splits), "_".join(words)


def is_stack(name: str) -> bool:
    """Whether an .npy in a folder is a stack of tiles by its name, such as train_images.npy."""
    kind, rest = role(name[:-4])
    return kind == "images" and rest in SPLIT_WORDS


class Stacks(Collection):
    """The tiles of stacks.

    Args:
        arrays: name -> array; the name counts as the folder of its tiles, the empty one for a root that is a stack.
        file_of: the file of an array, by its name.

    Raises:
        UserError: none is a stack of tiles, two arrays are labels of the same tiles, or labels do not fit theirs.
    """

    def __init__(self, arrays: Mapping[str, Array], file_of: Callable[[str], Path], root: Path) -> None:
        self._file_of, self._root = file_of, root
        roles = {name: role(PurePosixPath(name).name.removesuffix(".npy")) for name in arrays}
        stacks = [name for name, (kind, _) in roles.items() if kind == "images"]
        if not stacks:
            stacks = [name for name, array in arrays.items() if len(array.shape) in (3, 4) and roles[name][0] == ""]
        if not stacks:
            shown = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise UserError(
                f"data.root: {root} holds no stack of tiles. One is called train_images, images or the like and has "
                f"the shape (n, h, w) or (n, h, w, c); there are: {shown or 'no arrays'}"
            )
        self._stacks = {name: (arrays[name], _channels(arrays[name])) for name in sorted(stacks)}
        self._keys = {name: key(name, roles[name][1]) for name in stacks}
        self._labels = _by_key({name: arrays[name] for name, (kind, _) in roles.items() if kind == "labels"}, roles)
        self._classes = next((arrays[name] for name, (kind, _) in roles.items() if kind == "classes"), None)
        others = [name for name in arrays if name not in stacks and not roles[name][0]]
        self.notes = (
            [f"arrays that hold neither tiles nor labels by their names: {', '.join(others)}"] if others else []
        )
        idle = [labels.name for of, labels in self._labels.items() if of not in self._keys.values()]
        self.notes += [f"labels of no stack by their names, not used: {', '.join(idle)}"] if idle else []
        self._rows = {
            f"{name}/{row_name(number)}" if name else row_name(number): (name, number)
            for name, (array, _) in self._stacks.items()
            for number in range(array.shape[0])
        }
        self.images = sorted(self._rows)

    def read(self, path: str) -> bytes:
        """A tile as an .npy (c h w)."""
        name, number = self._rows[path]
        array, channels = self._stacks[name]
        tile = array.part(number, 1)[0]
        tile = tile[None] if channels is None else np.moveaxis(tile, channels, 0)
        written = io.BytesIO()
        np.lib.format.write_array(written, np.ascontiguousarray(tile), allow_pickle=False)
        return written.getvalue()

    def holds(self, path: str) -> bool:
        return path in self._rows

    def file_of(self, path: str) -> Path:
        return self._file_of(self._rows[path][0])

    def labelled(self, key: str | None) -> Labelled:
        if key is not None:
            raise UserError(f"data.labels: the labels of {self._root} are its arrays; leave data.labels out")
        given: dict[str, GivenLabel] = {}
        notes = []
        for name, (array, _) in self._stacks.items():
            labels = self._labels.get(self._keys[name])
            found = None if labels is None else _labels(labels, array.shape[0])
            if labels is not None and found is None:
                notes.append(
                    f"{labels.name}: {labels.dtype} of shape {labels.shape} are no labels of classes: not used"
                )
            for number in range(array.shape[0]):
                path = f"{name}/{row_name(number)}" if name else row_name(number)
                given[path] = None if found is None else found[number]
        names = None if self._classes is None else [str(each) for each in _texts(self._classes.all().ravel())]
        texts, classes, several = in_words([given[path] for path in self.images], names)
        words = {name: tuple(rest.split("_")) for name, (_, rest) in self._keys.items()}
        told = {path: Told(words[self._rows[path][0]], text) for path, text in zip(self.images, texts, strict=True)}
        return Labelled(told, classes if any(texts) else [], several, notes)


def _by_key(labels: Mapping[str, Array], roles: Mapping[str, tuple[str, str]]) -> dict[tuple[str, str], Array]:
    """The arrays of labels by their keys.

    Raises:
        UserError: two have the same.
    """
    found: dict[tuple[str, str], Array] = {}
    for name, array in labels.items():
        of = key(name, roles[name][1])
        if of in found:
            raise UserError(
                f"data.root: {found[of].name} and {array.name} are both labels of the same tiles by their names: keep "
                f"one of them, or give the other a name that no stack has"
            )
        found[of] = array
    return found


def _channels(array: Array) -> int | None:
    """Which axis of a tile has the bands; None for tiles of one band without such an axis.

    Raises:
        UserError: the shape is that of no stack.
    """
    if len(array.shape) == 3:
        return None
    if len(array.shape) == 4:
        _, first, _, last = array.shape
        if last < min(array.shape[1:3]):
            return 2
        if first < min(array.shape[2:]):
            return 0
    raise UserError(
        f"data.root: {array.name} has the shape {array.shape}. Stacks of tiles are (n, h, w), (n, h, w, c) or "
        f"(n, c, h, w), with fewer bands than pixels a side; volumes and rows of numbers are no tiles"
    )


def _labels(array: Array, count: int) -> list[Sequence[int | str]] | None:
    """The labels of each tile; None if they are none of classes.

    Raises:
        UserError: there are more or fewer than tiles.
    """
    if array.shape[:1] != (count,):
        raise UserError(f"data.root: {array.name} has the shape {array.shape}; the number of tiles is {count:,}")
    if len(array.shape) > 2 or array.dtype.kind not in "biuUS":
        return None
    values = _texts(array.all().reshape(count, -1))
    if values.shape[1] == 1:
        return [*values.astype(np.int64 if values.dtype.kind in "biu" else str).tolist()]
    if values.dtype.kind not in "biu" or not set(np.unique(values).tolist()) <= {0, 1}:
        return None
    return [np.flatnonzero(row).tolist() for row in values]


def _texts(values: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Bytes as texts; other values as they are."""
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
