"""Labels and splits from a table, splits or addresses from lists: text files in UTF-8 below the data root.

A table is a CSV file with one row a file, or Parquet with the same columns.

    file,labels,split
    north/001.tif,forest;water,train
    north/002.tif,water,test

``file`` is relative to the data root; ``labels`` are names separated by semicolons; ``split`` may be left out, and is
then drawn by the recipe's shares. Files without a row train the generator and the backbone, and are scored nowhere.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import NamedTuple
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.imagery.layouts import split_named
from gcl_custom.imagery.tile_store import SPLITS, SplitName
from gcl_custom.measures.label_kinds import SEPARATOR
from gcl_custom.recipe.imagery import is_address

COLUMNS = {"file": "file", "filename": "file", "path": "file", "labels": "labels", "label": "labels", "split": "split"}
"""Names of columns, and what each holds."""
QUOTED = re.compile(r'(^|,) *"(?:[^"]|"")*" *(?=,|$)')
"""A cell in quotes."""
PARQUET = ".parquet"
"""End of the name of a table that is no CSV."""
SHOWN = 5
"""Most mistakes in one message."""


class LabelRow(NamedTuple):
    split: SplitName | None
    labels: str
    """Names in alphabetical order, joined by semicolons."""


def table_below(root: Path, given: str, key: str = "data.labels", what: str = "table of labels") -> Path:
    """The file of the table, with all links followed.

    Args:
        given: the path that the recipe states, relative to the root.
        key, what: of the recipe, and what is looked for, in messages.

    Raises:
        UserError: there is none, it is no regular file, or it lies outside of the root: nothing is read there.
    """
    path = root / given
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a path that is none
        raise UserError(f"{key}: {given!r} leads to no file ({error})") from None
    if not real.is_relative_to(root.resolve()):
        raise UserError(
            f"{key}: {path} lies outside of data.root, {root}, or is a link that leads outside. The "
            f"{what} is only looked for below the data root: put a copy of it there"
        )
    if not real.exists():
        raise UserError(f"{key}: there is no file {path}. It is looked for in data.root")
    if not real.is_file():
        raise UserError(f"{key}: {path} is no regular file")
    return real


def read_labels(path: Path, images: Sequence[str], content: bytes | None = None) -> dict[str, LabelRow]:
    """The rows of a table, by file.

    Args:
        images: the files that there are, relative to the data root.
        content: the bytes of the table, where they are not those of a file.

    Raises:
        UserError: naming the row of each mistake.
    """
    if path.suffix.lower() == PARQUET:
        records = _rows(path, content)
    else:
        text = _text(path, "data.labels") if content is None else _decoded(content, path, "data.labels")
        records = _records(path, text)
    header = _header(path, next(records, (1, "", []))[2])
    known = _Images(images)
    rows: dict[str, LabelRow] = {}
    places: dict[str, int] = {}
    faults: list[str] = []
    for number, raw, cells in records:
        given = dict(zip(header, cells, strict=False))
        file = known.find(given.get("file", ""))
        name = file or given.get("file", "").strip()
        found = list(_faults(raw, header, cells, given, known, file))
        if name in places:
            found.append(f"{name} stands in row {places[name]} already")
        faults += [f"row {number}: {fault}" for fault in found]
        places.setdefault(name, number)
        if not found and file:
            names = sorted({name.strip() for name in given["labels"].split(SEPARATOR)})
            rows[file] = LabelRow(split_named(given.get("split", "")), SEPARATOR.join(names))
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        shown = "".join(f"\n  {fault}" for fault in faults[:SHOWN])
        raise UserError(f"data.labels: {path} has mistakes, mend them and start again:{shown}{more}")
    if not rows:
        raise UserError(f"data.labels: {path} has no row with labels")
    return rows


def read_lists(
    root: Path, lists: Mapping[SplitName, str], images: Sequence[str]
) -> tuple[dict[str, SplitName], list[str]]:
    """The split of each image that a list names, and notes for the user. The others are for training, or have no split
    if a list says which those are.

    A line is a path: relative to the root or to the list, or the end of one, with or without its suffix. What stands
    behind it, after a space or a comma, is passed over. Lines without an image are counted: data sets are often used
    in part.

    Args:
        lists: the text file of each split, relative to the root.
        images: the files that there are, relative to the root.

    Raises:
        UserError: a list cannot be read, names no image, or names one that another list names as well.
    """
    known, notes = _Images(images), []
    splits: dict[str, SplitName] = {}
    for split, given in lists.items():
        key = f"data.split.lists.{split}"
        path = table_below(root, given, key, "list of a split")
        beside = path.parent.relative_to(root.resolve()).as_posix()
        lines = [line for text in _text(path, key).splitlines() if (line := text.strip()) and line[0] != "#"]
        absent = []
        for number, line in enumerate(lines, start=1):
            file = known.listed(line, beside)
            if file is None:
                absent.append(line)
            elif splits.setdefault(file, split) != split:
                raise UserError(
                    f"{key}: {path} names {file} in line {number}, and so does the list of the {splits[file]} split. A "
                    f"file belongs to one split: take it out of one list"
                )
        if len(absent) == len(lines):
            raise UserError(
                f"{key}: no line of {path} names an image below {root}"
                + (f"; the first one is {lines[0]!r}. A line is a path relative to data.root" if lines else "")
            )
        if absent:
            notes.append(
                f"lines of {given} that name no image here: {len(absent):,} of {len(lines):,}, such as {absent[0]}"
            )
    left = [image for image in images if image not in splits]
    if "train" not in lists:
        splits |= dict.fromkeys(left, "train")
    elif left:
        few = ", ".join(left[:3])
        notes.append(f"images that no list of data.split.lists names, left out: {len(left):,}, such as {few}")
    return splits, notes


def read_addresses(root: Path, given: Sequence[str] | str) -> list[str]:
    """Addresses of scenes, each once and sorted: as the recipe lists them, or as a text file below the root does.

    Raises:
        UserError: the file cannot be read, or a line of it is no address.
    """
    if not isinstance(given, str):
        return sorted(set(given))
    key = "data.scenes.remote.addresses"
    path = table_below(root, given, key, "list of addresses")
    lines = [text for line in _text(path, key).splitlines() if (text := line.strip()) and text[0] != "#"]
    if wrong := [line for line in lines if not is_address(line)]:
        raise UserError(f"{key}: {wrong[0]!r} in {path} is no address, such as https://SERVER/FILE.tif")
    if not lines:
        raise UserError(f"{key}: {path} holds no address. Write one a line, such as https://SERVER/FILE.tif")
    return sorted(set(lines))


def _text(path: Path, key: str) -> str:
    try:
        return _decoded(path.read_bytes(), path, key)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror})") from None


def _decoded(content: bytes, path: Path, key: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {path} is no text in UTF-8 ({error.reason} at byte {error.start})") from None


def _records(path: Path, text: str) -> Iterator[tuple[int, str, list[str]]]:
    """The number of each record's first row, its text, and its cells. Empty rows are left out."""
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, skipinitialspace=True)
    while True:
        first = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"data.labels: {path}, row {first + 1}: no CSV ({error})") from None
        if cells:
            yield first + 1, "".join(lines[first : reader.line_num]).rstrip("\r\n"), cells


def _rows(path: Path, content: bytes | None) -> Iterator[tuple[int, str, list[str]]]:
    """The columns of a Parquet file, and its rows as cells of text. A list becomes names with semicolons."""
    try:
        with pq.ParquetFile(path if content is None else pa.BufferReader(content)) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"data.labels: {path} cannot be read as Parquet ({error})") from None
    yield 1, "", table.column_names
    for number, row in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True), start=1):
        yield number, "", [_cell(value) for value in row]


def _cell(value: object) -> str:
    return SEPARATOR.join(map(_cell, value)) if isinstance(value, list) else "" if value is None else str(value)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """What each column holds."""
    names = [name.strip() for name in cells]
    header = [COLUMNS.get(name.lower(), "") for name in names]
    wrong = [f"unknown column {name!r}" for name, column in zip(names, header, strict=True) if not column]
    wrong += [f"no column {name!r}" for name in ("file", "labels") if name not in header]
    wrong += [f"column {name!r} twice" for name in ("file", "labels", "split") if header.count(name) > 1]
    if wrong:
        where = "columns" if path.suffix.lower() == PARQUET else "row 1"
        raise UserError(
            f"data.labels: {path}, {where}: {', '.join(wrong)}. Columns are file (or filename, path), labels (or "
            f"label) and, if wanted, split, separated by commas"
        )
    return header


class _Images:
    """The images of the root, found by what a table calls them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = set(paths)
        self._composed = {normalize("NFC", path): path for path in paths}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            name = path.rpartition("/")[2]
            for form in (name, name.rpartition(".")[0]):
                self._by_name[form].append(path)

    def find(self, given: str) -> str | None:
        """The image's path, also where the table writes ./a.jpg, a\\b.jpg or letters with accents in another way."""
        for text in (given, given.strip(), given.strip().replace("\\", "/")):
            for path in (text, normpath(text)):
                if path in self._paths:
                    return path
                if composed := self._composed.get(normalize("NFC", path)):
                    return composed
        return None

    def listed(self, line: str, beside: str) -> str | None:
        """The image that a line of a list names; ``beside`` is the folder of the list, relative to the root."""
        for text in (line, re.split(r"[\s,;]+\S*$", line)[0]):
            path = normpath(text.strip("\"'").replace("\\", "/"))
            if file := self.find(path) or self.find(f"{beside}/{path}"):
                return file
            alike = [
                image
                for image in self._by_name.get(path.rpartition("/")[2], [])
                for whole in (image, image.rpartition(".")[0])
                if f"/{whole}".endswith(f"/{path}") or f"/{path}".endswith(f"/{whole}")
            ]
            if len(set(alike)) == 1:
                return alike[0]
        return None

    def hint(self, given: str) -> str:
        """The image of this name in another folder, if there is just one."""
        alike = self._by_name.get(given.strip().replace("\\", "/").rpartition("/")[2], [])
        return f"; did you mean {alike[0]!r}?" if len(alike) == 1 else ""


def _faults(
    raw: str, header: Sequence[str], cells: list[str], given: dict[str, str], known: _Images, file: str | None
) -> Iterator[str]:
    if '"' in QUOTED.sub("", raw):
        yield "a stray quote: a cell in quotes ends with one, and a quote inside is doubled"
        return
    if len(cells) != len(header):
        yield f"{counted(len(cells), 'cell')} under {counted(len(header), 'column')}"
        return
    if file is None:
        yield f"there is no image {given['file'].strip()!r} in the data root{known.hint(given['file'])}"
    if not all(name.strip() for name in given["labels"].split(SEPARATOR)):
        yield f"an empty label in {given['labels']!r}"
    if len(given["labels"].splitlines()) > 1:
        yield "a label of several lines: is there a quote too many?"
    if "split" in header and not split_named(given["split"]):
        yield f"split {given['split']!r} is none of {', '.join(SPLITS)}"
