"""Reading a tile from its source. Packing, check and embed read imagery here and nowhere else."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from gcl_custom.imagery.collections.collection import Unreadable
from gcl_custom.imagery.collections.open_collections import holding
from gcl_custom.imagery.decoding import (
    NODATA,
    SCENE,
    UNREAD,
    Form,
    Place,
    Tile,
    Unusable,
    form_in,
    form_of,
    place_of,
    tile_from,
)
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.imagery import DataSettings


@dataclass(frozen=True)
class ReadTile:
    """The bytes of a source's file. Tile, place and digest are computed on request.

    Attributes:
        content: the bytes, or the reason why the file cannot be opened.
    """

    source: Source
    content: bytes | Unusable
    form: Form
    data: DataSettings

    def tile(self) -> Tile | Unusable:
        """The tile, or the reason why there is none."""
        if isinstance(self.content, Unusable):
            return self.content
        try:
            return tile_from(
                self.content, self.form, self.data.size, self.data.upscale, self.data.nodata, self.source.window
            )
        except Unusable as problem:
            return problem

    def place(self) -> Place | None:
        """Where the tile lies on earth, if the file says so. Call it only if there is a tile."""
        return None if isinstance(self.content, Unusable) else place_of(self.content, self.source.window)

    def digest(self) -> str:
        """Digest of the file's bytes and the window: sources with the same digest give the same tile.

        A file that cannot be opened gets a digest of its own, because the reason belongs to its path.
        """
        if isinstance(self.content, Unusable):
            return f"{UNREAD}: {self.source}"
        digest = hashlib.blake2b(self.content, digest_size=16)
        if self.source.window:
            digest.update(str(Source("", self.source.window)).encode())
        return digest.hexdigest()


def on_earth(place: Place | None) -> tuple[float, float] | None:
    """Longitude and latitude; None where the coordinate system has no place on earth."""
    if place is None or place.longitude is None or place.latitude is None:
        return None
    return place.longitude, place.latitude


@runtime_checkable
class Remarkable(Protocol):
    """What a reader should hear of a tile that was made."""

    @property
    def grey(self) -> bool: ...

    @property
    def alpha(self) -> bool: ...

    @property
    def scene(self) -> bool: ...


def remarks(tiles: Iterable[Remarkable]) -> Iterator[str]:
    """Say of how many tiles something holds that changes what they show."""
    counts = Counter(name for tile in tiles for name in ("grey", "alpha", "scene") if getattr(tile, name))
    if count := counts["grey"]:
        yield f"{count} greyscale files: the one band stands for red, green and blue"
    if count := counts["alpha"]:
        yield (
            f"{count} files have an alpha band: it is dropped, and what it hides is nodata. If it is a band, such as "
            f"near infrared, name all bands (data.bands)"
        )
    if count := counts["scene"]:
        yield (
            f"{count} files are {SCENE} times as large as data.size or more, and each is shrunk to one tile: scenes "
            f"have to be cut into tiles first, or data.size raised"
        )


def in_kinds(kinds: Iterable[str]) -> str:
    """How many files are unusable for each kind of reason, the most common first. Nodata is no such reason."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common() if kind != NODATA)


def without_data(count: int, of: int, data: DataSettings) -> str:
    """Say how many files are left out because they hold too little data."""
    share = f"more than {data.nodata:.0%} of their pixels hold no data (data.nodata)"
    return f"{count:,} of {of:,} files are left out, as {share}"


def excess(kinds: Sequence[str], of: int, data: DataSettings) -> Iterator[str]:
    """Why so many files without a tile end the run: there are more than the recipe allows of a sort.

    Args:
        kinds: of the files that have no tile.
        of: number of files that were read.
    """
    empty = kinds.count(NODATA)
    if (bad := len(kinds) - empty) > data.bad_files * of:
        yield f"{bad:,} of {of:,} files are unusable ({in_kinds(kinds)}); data.bad_files allows {data.bad_files:.0%}"
    if empty > data.nodata_files * of:
        yield f"{without_data(empty, of, data)}; data.nodata_files allows {data.nodata_files:.0%}"


def read_tile(root: Path, source: Source, form: Form, data: DataSettings) -> ReadTile:
    """Read the source's file, whole and once, or its bytes in a collection. Each window of a file reads it again."""
    try:
        return ReadTile(source, content_of(root, source), form, data)
    except Unusable as problem:
        return ReadTile(source, problem, form, data)


def form_of_source(root: Path, source: Source) -> Form:
    """The form by the header of a file, or of a raster in a collection. Other tiles in a collection are decoded.

    Raises:
        Unusable: it cannot be read.
    """
    return form_in(content_of(root, source)) if holding(root, source.path) else form_of(root / source.path)


def content_of(root: Path, source: Source) -> bytes:
    """The bytes of the source's file, or of the tile in a collection.

    Raises:
        Unusable: they cannot be read.
    """
    try:
        source.path.encode()
    except UnicodeEncodeError:
        raise Unusable("name is not UTF-8", "rename the file or its folder") from None
    try:
        inside = holding(root, source.path)
        return inside.read(source.path) if inside else (root / source.path).read_bytes()
    except Unreadable as problem:
        raise Unusable(problem.kind, problem.detail) from None
    except OSError as error:
        raise Unusable(UNREAD, str(error.strerror)) from None
