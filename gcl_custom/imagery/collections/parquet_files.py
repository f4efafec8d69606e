"""Parquet with a column of images, as Hugging Face's ``datasets`` writes it: the bytes of a file in each row.

The column is a struct {bytes, path}, or plain bytes; ``path`` is only a name and is not opened. Class names come from
what ``datasets`` keeps in the schema's metadata.
"""

import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import (
    DAMAGED,
    Collection,
    GivenLabel,
    Labelled,
    Told,
    Unreadable,
    in_words,
    require_small,
    row_name,
)

ROWS = 16
"""Rows that are read at once."""
KEPT = 6
"""Reads that are kept, for threads that ask in a slightly other order."""
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture", "tile", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")
"""Names of columns, the first that is there counts."""


class _File:
    """The images of one file. Rows are read in order, a few at a time; going back begins the row group anew."""

    def __init__(self, path: Path) -> None:
        try:
            self._parquet = pyarrow.parquet.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"data.root: {path} is no Parquet file, or a damaged one ({_line(error)})") from None
        self.path, self.schema = path, self._parquet.schema_arrow
        about = self._parquet.metadata
        self.count: int = about.num_rows
        self._groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        self._lock = threading.Lock()
        self._reader: Iterator[Any] = iter(())
        self._next, self._end = 0, 0
        self._kept: deque[tuple[int, list[Any]]] = deque(maxlen=KEPT)

    def row(self, number: int, column: str) -> Any:
        with self._lock:
            try:
                return self._row(number, column)
            except (pa.ArrowException, OSError) as error:
                self._next = self._end = 0
                raise Unreadable(DAMAGED, _line(error)) from None

    def _row(self, number: int, column: str) -> Any:
        for first, rows in self._kept:
            if first <= number < first + len(rows):
                return rows[number - first]
        if not self._next <= number < self._end:
            group, first = 0, 0
            while first + self._groups[group] <= number:
                first, group = first + self._groups[group], group + 1
            self._next, self._end = first, first + self._groups[group]
            self._reader = self._parquet.iter_batches(ROWS, [group], [column], use_threads=False)
        while True:
            first, batch = self._next, next(self._reader)
            self._next += len(batch)
            if number < self._next:
                rows = batch.column(0).to_pylist()
                self._kept.append((first, rows))
                return rows[number - first]

    def column(self, name: str) -> list[Any]:
        try:
            found: list[Any] = self._parquet.read([name], use_threads=False).column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"data.root: {self.path}: column {name} cannot be read ({_line(error)})") from None
        return found


class ParquetFiles(Collection):
    """The rows of one file that is the root, or of several below a folder.

    Args:
        files: path relative to the root -> file; the empty path for the root itself.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = {prefix: _File(path) for prefix, path in files.items()}
        first = next(iter(self._files.values()))
        features = _features(first.schema)
        images = [field.name for field in first.schema if _holds_images(field, features)]
        if not images:
            raise UserError(
                f"data.root: {first.path} has no column of images among {', '.join(first.schema.names)}. It holds in "
                f"each row the bytes of a file (JPEG, PNG, ...), alone or as a struct of bytes and path"
            )
        self._column = _first(IMAGE_COLUMNS, images) or images[0]
        if len(images) > 1:
            self.notes = [f"several columns hold images ({', '.join(images)}): {self._column} is taken"]
        for file in self._files.values():
            if self._column not in file.schema.names:
                raise UserError(f"data.root: {file.path} has no column {self._column}, as {first.path} has")
        self._rows = {
            f"{prefix}/{row_name(number)}" if prefix else row_name(number): (prefix, number)
            for prefix, file in self._files.items()
            for number in range(file.count)
        }
        self.images = sorted(self._rows)

    def read(self, path: str) -> bytes:
        prefix, number = self._rows[path]
        found = self._files[prefix].row(number, self._column)
        content = found.get("bytes") if isinstance(found, dict) else found
        if not content:
            named = found.get("path") if isinstance(found, dict) else None
            raise Unreadable("no image in its row", f"only the name {named!r}, which is not opened" if named else "")
        require_small(len(content))
        return bytes(content)

    def holds(self, path: str) -> bool:
        return path in self._rows

    def file_of(self, path: str) -> Path:
        return self._files[self._rows[path][0]].path

    def labelled(self, key: str | None) -> Labelled:
        """Labels of a column, and splits by the names of files and folders: train-00000-of-00002.parquet."""
        first = next(iter(self._files.values()))
        column, names, notes = _label_column(first, self._column, key)
        given: dict[str, GivenLabel] = {}
        for prefix, file in self._files.items():
            if column is not None and column not in file.schema.names:
                raise UserError(f"data.root: {file.path} has no column {column}, as {first.path} has")
            values = [None] * file.count if column is None else file.column(column)
            for number, value in enumerate(values):
                given[f"{prefix}/{row_name(number)}" if prefix else row_name(number)] = _label(value)
        texts, classes, several = in_words([given[path] for path in self.images], names)
        return Labelled(
            {path: Told(_words(self._rows[path][0]), text) for path, text in zip(self.images, texts, strict=True)},
            classes if any(texts) else [],
            several,
            notes,
        )


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What ``datasets`` wrote of the columns; empty if another program made the file."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _holds_images(field: pa.Field, features: Mapping[str, Any]) -> bool:
    """Whether a column holds bytes of files."""
    kind = field.type
    if pa.types.is_struct(kind):
        return any(part.name == "bytes" and _is_binary(part.type) for part in kind)
    told = features.get(field.name)
    stated = isinstance(told, dict) and told.get("_type") == "Image"
    return _is_binary(kind) and (stated or field.name.lower() in (*IMAGE_COLUMNS, "bytes", "content"))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _first(wanted: Sequence[str], among: Sequence[str]) -> str | None:
    return next((name for want in wanted for name in among if name.lower() == want), None)


def _label_column(file: _File, images: str, key: str | None) -> tuple[str | None, list[str] | None, list[str]]:
    """The column of labels, if there is one, the names of its classes by number, and what to tell the user."""
    schema, features = file.schema, _features(file.schema)
    if key is not None and key not in schema.names:
        raise UserError(f"data.labels: {file.path} has no column {key!r}; it has {', '.join(schema.names)}")
    stated = [name for name in schema.names if _class_names(features.get(name)) is not None]
    likely = [field.name for field in schema if field.name != images and _may_be_label(field.type)]
    column = key or _first(LABEL_COLUMNS, stated) or next(iter(stated), None) or _first(LABEL_COLUMNS, likely)
    if column is None:
        return None, None, []
    if not _may_be_label(schema.field(column).type):
        raise UserError(
            f"data.labels: column {column} of {file.path} is {schema.field(column).type}, which is no label"
        )
    others = [name for name in stated if name != column]
    notes = [f"labels are those of column {column}; data.labels takes another: {', '.join(others)}"] if others else []
    return column, _class_names(features.get(column)), [] if key else notes


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _class_names(feature.get("feature"))
    names = feature.get("names")
    return [str(name) for name in names] if feature.get("_type") == "ClassLabel" and isinstance(names, list) else None


def _may_be_label(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):  # as pandas writes categories
        kind = kind.value_type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.types.is_integer(kind) or any(is_text(kind) for is_text in texts)


def _label(value: Any) -> GivenLabel:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if each is not None and each != ""] or None


def _words(prefix: str) -> tuple[str, ...]:
    """The words of a file's name and of the folders above it, the nearest first."""
    parts = re.sub(r"\.parquet$", "", prefix, flags=re.IGNORECASE).split("/")
    return tuple(word for part in reversed(parts) for word in (part, *reversed(re.split("[-_.]", part))))
