"""Archives of images, zip and tar, and WebDataset's shards: tars whose tiles have their label in a file beside them.

Nothing is unpacked: a member is read from its place. So no name in an archive can lead anywhere, and links in a tar are
passed over. Of several archives, the name of each counts as a folder unless it is but the number of a shard.
"""

import json
import re
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import (
    DAMAGED,
    IMAGE_SUFFIXES,
    Collection,
    GivenLabel,
    Labelled,
    Told,
    Unreadable,
    in_words,
    require_small,
)
from gcl_custom.imagery.collections.collection_names import TAR_GZ, ZIP
from gcl_custom.imagery.collections.flat_bytes import RAW, FlatBytes, InflatedBytes, PlainBytes

SHARD = re.compile(r"(^|[-_.])\d+([-_.]?of[-_.]?\d+)?$")
"""The number of a shard, at the end of its name."""
LABEL_KEYS = ("label_name", "class_name", "classname", "class", "labels", "label", "cls", "category")
"""Keys of a tile's JSON that hold its label; the first that is there counts."""
CLASS_NAMES = ("classnames.txt", "classes.txt")
"""Files beside shards with a class name a line."""


class Archive(ABC):
    """One archive, opened once for all threads.

    Attributes:
        members: names of its regular files.
        passed: kind of member that is passed over -> number.
    """

    members: Sequence[str]
    passed: Counter[str]

    @abstractmethod
    def place(self, name: str) -> int:
        """Where a member lies in the archive."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            Unreadable: it is damaged, encrypted or too large.
        """


class ZipArchive(Archive):
    def __init__(self, path: Path) -> None:
        self._bytes = PlainBytes(path)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.passed = Counter()
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"data.root: {path} is no zip archive, or a damaged one ({error})") from None
        for info in infos:
            if not info.is_dir() and (name := _inside(info.filename.replace("\\", "/"), self.passed)):
                self._infos[name] = info
        self.members = sorted(self._infos)

    def place(self, name: str) -> int:
        return self._infos[name].header_offset

    def read(self, name: str) -> bytes:
        info = self._infos[name]
        require_small(info.file_size)
        if info.flag_bits & 1:
            raise Unreadable("encrypted", "zip the files without a password")
        packed = self._bytes.exactly(member_start(self._bytes, info), info.compress_size)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(RAW).decompress(packed, info.file_size + 1)
            except zlib.error as error:
                raise Unreadable(DAMAGED, str(error)) from None
        elif info.compress_type == zipfile.ZIP_STORED:
            content = packed
        else:
            raise Unreadable("compressed in an unknown way", "zip the files with the usual deflate")
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise Unreadable(DAMAGED, "its bytes are not those that were zipped")
        return content


class TarArchive(Archive):
    """A tar, or one in gzip. Its headers are read once; then each member is read from its place."""

    def __init__(self, path: Path) -> None:
        packed = path.name.lower().endswith(TAR_GZ)
        self._bytes = InflatedBytes(path) if packed else PlainBytes(path)
        self._places: dict[str, tuple[int, int]] = {}
        self.passed = Counter()
        given: Any = self._bytes
        try:
            with tarfile.open(fileobj=given, mode="r:") as tar:
                headers: Any = tar
                for info in tar:
                    headers.members = []  # they would all be kept
                    if info.isreg() and not info.issparse():
                        if name := _inside(info.name, self.passed):
                            self._places[name] = (info.offset_data, info.size)
                    elif not info.isdir():
                        self.passed["that are links or special files"] += 1
        except (tarfile.TarError, Unreadable, EOFError, OverflowError, ValueError) as error:
            raise UserError(
                f"data.root: {path} is no tar archive, or a damaged one ({error}). Pack it again: tar cf NEW.tar FOLDER"
            ) from None
        self.members = sorted(self._places)

    def place(self, name: str) -> int:
        return self._places[name][0]

    def read(self, name: str) -> bytes:
        return self._bytes.exactly(*self._places[name])


def member_start(archive: FlatBytes, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member of a zip archive begin.

    Raises:
        Unreadable: the archive is damaged.
    """
    head = archive.exactly(info.header_offset, 30)
    if not head.startswith(b"PK\3\4"):
        raise Unreadable(DAMAGED, "its head is not where the archive says")
    name, extra = struct.unpack("<2H", head[26:])
    return info.header_offset + 30 + int(name) + int(extra)


def _inside(name: str, passed: Counter[str]) -> str | None:
    """The name of a member below the archive; None for one that does not count, as a hidden file."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:[/\\\\]", name):
        passed["whose names lead outside"] += 1
        return None
    hidden = any(part.startswith(".") for part in parts) or parts[:1] == ["__MACOSX"]
    return None if hidden or not parts else "/".join(parts)


class Archives(Collection):
    """The images of one archive that is the root, or of several below a folder.

    Args:
        files: path relative to the root -> archive; the empty path for the root itself.
        names: the class of each label number, if a file beside the archives says so.
    """

    def __init__(self, files: Mapping[str, Path], names: Sequence[str] | None = None) -> None:
        self._files, self._names = files, names
        self._archives = {
            prefix: ZipArchive(path) if path.name.lower().endswith(ZIP) else TarArchive(path)
            for prefix, path in files.items()
        }
        self._members = {
            f"{prefix}/{name}" if prefix else name: (prefix, name)
            for prefix, archive in self._archives.items()
            for name in archive.members
        }
        self.images = sorted(path for path in self._members if path.lower().endswith(IMAGE_SUFFIXES))
        self._beside = {path: beside for path in self.images if (beside := self._label_file(path))}
        passed = Counter[str]()
        for archive in self._archives.values():
            passed += archive.passed
        if others := len(set(self._members).difference(self.images, self._beside.values())):
            passed["that are no images by their names"] += others
        self.notes = [f"members of archives {kind}, passed over: {count}" for kind, count in sorted(passed.items())]

    def read(self, path: str) -> bytes:
        prefix, name = self._members[path]
        return self._archives[prefix].read(name)

    def holds(self, path: str) -> bool:
        return path in self._members

    def file_of(self, path: str) -> Path:
        return self._files[self._members[path][0]]

    def place(self, path: str) -> tuple[str, int]:
        prefix, name = self._members[path]
        return prefix, self._archives[prefix].place(name)

    def table(self, path: str) -> bytes | None:
        return self.read(path) if path in self._members else None

    def placed(self, path: str) -> str:
        prefix, name = self._members[path]
        if not prefix:
            return path
        folders, (*inner, last) = _folders(prefix), name.split("/")
        if folders and inner[:1] == folders[-1:]:  # forest.zip that holds forest/a.jpg
            del inner[0]
        return "/".join([*folders, *inner, f"{prefix.rpartition('/')[2]}:{last}"])

    def labelled(self, key: str | None) -> Labelled | None:
        """Labels of shards, each in a file beside its tile: KEY.cls, or KEY.json with a key for it."""
        given = [self._label(self._beside.get(path), key) for path in self.images]
        if not any(given):
            return None
        texts, classes, several = in_words(given, self._names)
        told = {}
        for path, text in zip(self.images, texts, strict=True):
            words = [word for part in _folders(self._members[path][0]) for word in (part, *re.split("[-_.]", part))]
            told[path] = Told(tuple(reversed(words)), text)
        return Labelled(told, classes, several)

    def _label_file(self, path: str) -> str | None:
        """The member with the label of an image: of the same name up to its suffix, or up to its first dot."""
        folder, slash, last = path.rpartition("/")
        for stem in dict.fromkeys((last.rpartition(".")[0], last.partition(".")[0])):
            for suffix in (".cls", ".json"):
                if (beside := f"{folder}{slash}{stem}{suffix}") in self._members:
                    return beside
        return None

    def _label(self, beside: str | None, key: str | None) -> GivenLabel:
        if beside is None:
            return None
        try:
            text = self.read(beside).decode().strip()
            if beside.endswith(".json"):
                about = json.loads(text)
                found = next((about[name] for name in ([key] if key else LABEL_KEYS) if name in about), None)
            else:
                found = text
        except (Unreadable, ValueError, TypeError, RecursionError):
            return None
        labels = [
            int(x) if isinstance(x, str) and x.isdecimal() else x
            for x in (found if isinstance(found, list) else [found])
        ]
        return [label for label in labels if isinstance(label, (int, str)) and label != ""] or None


def _folders(prefix: str) -> list[str]:
    """The folders above an archive, and its own name as one, without suffix and the number of a shard."""
    *folders, last = prefix.split("/")
    stem = re.sub(r"(\.tar|\.zip|\.tar\.gz|\.tgz)$", "", last, flags=re.IGNORECASE)
    return [part for part in (*folders, SHARD.sub("", stem)) if part]
