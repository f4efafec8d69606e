"""Reading tiles from their sources. Packing, check and embed read imagery here and nowhere else.

A file is read whole and once. Of a scene, windows near one another are read at once, by path, and nothing else.
"""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
from rasterio.errors import RasterioError

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import Unreadable
from gcl_custom.imagery.collections.open_collections import collection_at, holding, is_of_arrays
from gcl_custom.imagery.decoding import (
    UNREAD,
    Form,
    Picture,
    Tile,
    Unusable,
    decode,
    form_in,
    form_of,
    reading,
    shorter_side,
    tile_from,
    tile_of,
)
from gcl_custom.imagery.left_out import CLOUD, SAMENESS
from gcl_custom.imagery.places.shared_ground import Footprints
from gcl_custom.imagery.scenes.grid import read_together
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.labels import Labels, labels_over
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.scenes.places import Place, corners, place_of, places
from gcl_custom.imagery.scenes.rasters import damaged_raster, raster_form
from gcl_custom.imagery.scenes.read_windows import Part, read_parts, sameness
from gcl_custom.imagery.scenes.remote import Remote, located, opened_remote
from gcl_custom.imagery.scenes.scene import open_scene
from gcl_custom.imagery.scenes.scenes_among import scenes_among
from gcl_custom.imagery.source import Source, Window
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings

READERS = 8
"""Most threads that read scenes: each holds what it reads at once."""
Seen = TypeVar("Seen")


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


@dataclass(frozen=True)
class ReadWindow:
    """The pixels of a scene's window, with the same methods.

    Attributes:
        picture: the pixels, or the reason why they cannot be read.
        cloud: share of the pixels that a mask calls cloudy.
    """

    source: Source
    picture: Picture | Unusable
    form: Form
    data: DataSettings
    cloud: float = 0.0
    where: Place | None = None

    def tile(self) -> Tile | Unusable:
        if isinstance(self.picture, Unusable):
            return self.picture
        data = self.data
        assert data.scenes is not None, "windows are of scenes"
        try:
            tile = tile_of(self.picture, self.form, data.size, data.upscale, data.nodata)
        except Unusable as problem:
            return problem
        if data.scenes.cloud and self.cloud > data.scenes.cloud.most:
            return Unusable(CLOUD, f"{self.cloud:.0%} of its pixels")
        if (same := sameness(self.picture)) > data.scenes.sameness:
            return Unusable(SAMENESS, f"{same:.0%} of its pixels are as their neighbours")
        return tile

    def place(self) -> Place | None:
        return self.where

    def digest(self) -> str:
        """Digest of the window's pixels, of which hold data, and of the share of clouds."""
        if isinstance(self.picture, Unusable):
            return f"{UNREAD}: {self.source}"
        pixels, valid, alpha, by_band = self.picture
        digest = hashlib.blake2b(f"{pixels.dtype} {pixels.shape} {alpha} {self.cloud}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        if valid is not None:
            digest.update(np.packbits(valid).data)
        if by_band is not None:
            digest.update(np.packbits(by_band).data)
        return digest.hexdigest()


Read = ReadTile | ReadWindow
"""What was read of a source."""


# ---------------------------------------------------------------- reading


def read_tile(root: Path, source: Source, form: Form, data: DataSettings) -> Read:
    """Read a source: of a scene its window, of other files all."""
    return read_tiles(root, [source], form, data)[0]


def read_tiles(root: Path, sources: Sequence[Source], form: Form, data: DataSettings) -> Sequence[Read]:
    """Read sources that ``together`` put together."""
    if data.scenes:
        return _read_windows(root, sources, form, data)
    return [_read_file(root, source, form, data) for source in sources]


def read_all(
    root: Path, sources: Iterable[Source], form: Form, data: DataSettings, look: Callable[[Read], Seen]
) -> Iterator[Seen]:
    """Read sources in threads, and yield what ``look`` makes of each, in their order. Few are held at a time.

    Args:
        look: called in the threads. The pixels go with what it leaves behind.
    """
    readers = min(READERS, os.cpu_count() or 1) if data.scenes else None
    with ThreadPoolExecutor(readers) as pool:
        ahead: deque[Future[list[Seen]]] = deque()
        for some in together(sources):
            ahead.append(pool.submit(_look, root, some, form, data, look))
            if len(ahead) >= (2 * readers if readers else 256):
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _look(
    root: Path, sources: Sequence[Source], form: Form, data: DataSettings, look: Callable[[Read], Seen]
) -> list[Seen]:
    return [look(found) for found in read_tiles(root, sources, form, data)]


def together(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Sources that are read at once: windows of a scene that are near one another, any other source alone."""
    for (_, windowed), same in groupby(sources, key=lambda source: (source.path, source.window is not None)):
        some = list(same)
        lengths = read_together([source.window for source in some if source.window]) if windowed else [1] * len(some)
        for length in lengths:
            yield some[:length]
            del some[:length]


def _read_file(root: Path, source: Source, form: Form, data: DataSettings) -> ReadTile:
    try:
        return ReadTile(source, content_of(root, source), form, data)
    except Unusable as problem:
        return ReadTile(source, problem, form, data)


def content_of(root: Path, source: Source) -> bytes:
    """The bytes of the source's file, or of the tile in a collection.

    Raises:
        Unusable: they cannot be read.
    """
    _require_utf8(source.path)
    try:
        inside = holding(root, source.path)
        return inside.read(source.path) if inside else (root / source.path).read_bytes()
    except Unreadable as problem:
        raise Unusable(problem.kind, problem.detail) from None
    except OSError as error:
        raise Unusable(UNREAD, str(error.strerror)) from None


def header_of(root: Path, source: Source, without: int | None = None, scenes: ScenesSettings | None = None) -> Form:
    """The form by the header of a file, or of a raster in a collection. Other tiles in a collection are decoded.

    Args:
        without: number of a band of a file, from 1, that is none of the tiles.
        scenes: how files are cut, if they are.

    Raises:
        Unusable: it cannot be read.
        UserError: it lies on another machine, and is not there.
    """
    where = located(root, source.path, scenes)
    if isinstance(where, Remote):
        try:
            with opened_remote(where) as dataset:
                return raster_form(dataset, without)
        except RasterioError as error:
            raise where.lost(error) from None
        except NoScene as problem:
            raise Unusable(problem.kind, problem.detail) from None
    return form_in(content_of(root, source)) if holding(root, source.path) else form_of(where, without)


def side_of(root: Path, source: Source) -> int:
    """The shorter side of a tile's file, in pixels: by the header; a tile in a collection is decoded.

    Raises:
        Unusable: it cannot be read.
    """
    if not holding(root, source.path):
        return shorter_side(root / source.path)
    return min(decode(content_of(root, source)).pixels.shape[1:])


def _require_utf8(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Unusable("name is not UTF-8", "rename the file or its folder") from None


# ---------------------------------------------------------------- scenes


def cut(root: Path, paths: Sequence[str], data: DataSettings) -> list[Source]:
    """The windows of scenes, by path and in the order in which they are read; a file that cannot be cut stays whole.

    Files of masks of clouds and of labels are left out. Only headers are read.

    Raises:
        UserError: the root is a collection, such as an archive, or a scene on another machine cannot be opened.
    """
    assert data.scenes is not None, "only scenes are cut"
    if not is_of_arrays(root) and collection_at(root):
        raise UserError(f"data.scenes: {root} holds tiles, not files of scenes: leave the key out")
    scenes = scenes_among(root, paths, data)
    with reading(), ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda path: _cut(root, path, data), scenes)
        return [
            Source(path, window)
            for path, windows in zip(scenes, found, strict=True)
            for window in ([None] if isinstance(windows, Unusable) else windows)
        ]


def _cut(root: Path, name: str, data: DataSettings) -> list[Window] | Unusable:
    assert data.scenes is not None, "only scenes are cut"
    where = located(root, name, data.scenes)
    try:
        _require_utf8(name)
        with open_scene(where, data.scenes) as scene:
            found = scene.windows(data.scenes.side(data.size), data.scenes.overlap)
            return [Window(*window) for window in found]
    except Unusable as problem:
        return problem
    except (NoScene, RasterioError, OSError) as error:
        if isinstance(where, Remote) and isinstance(error, RasterioError):
            raise where.lost(error) from None
        return why_unread(error)


def where_cut(root: Path, sources: Sequence[Source], data: DataSettings) -> dict[Source, tuple[float, float] | None]:
    """Longitude and latitude of windows of scenes, by the headers alone; None for what has no place."""
    found: dict[Source, tuple[float, float] | None] = dict.fromkeys(sources)
    for path, ground, windows in _grounds(root, sources, data):
        some = [Source(path, window) for window in windows]
        found |= dict(zip(some, map(on_earth, places(ground, windows)), strict=True))
    return found


def footprints(root: Path, sources: Sequence[Source], data: DataSettings) -> Footprints | None:
    """Where windows of scenes lie, by the headers alone; None where splits may share ground, or files are no scenes."""
    if data.scenes is None or data.split.buffer_km is None:
        return None
    numbers = {source: number for number, source in enumerate(sources)}
    scenes = {path: number for number, path in enumerate(dict.fromkeys(source.path for source in sources))}
    found = np.full((len(sources), 4, 2), np.nan)
    for path, ground, windows in _grounds(root, sources, data):
        found[[numbers[Source(path, window)] for window in windows]] = corners(ground, windows)
    scene = np.array([scenes[source.path] for source in sources], dtype=np.int64)
    rectangles = np.array([source.window or (0, 0, 0, 0) for source in sources], dtype=np.int64).reshape(-1, 4)
    return Footprints(scene, rectangles, found)


def _grounds(root: Path, sources: Sequence[Source], data: DataSettings) -> Iterator[tuple[str, Ground, list[Window]]]:
    """The grid of each scene, and its windows among some sources. One that cannot be opened is passed over."""
    assert data.scenes is not None, "only scenes are cut"
    for path, same in groupby(sources, key=lambda source: source.path):
        windows = [source.window for source in same if source.window]
        try:
            with open_scene(located(root, path, data.scenes), data.scenes) as scene:
                yield path, scene.ground, windows
        except (NoScene, RasterioError, OSError):  # packing will say so
            continue


def labels_of_windows(root: Path, sources: Sequence[Source], data: DataSettings) -> Labels:
    """The labels of windows of scenes by polygons or rasters; raises as ``labels_over`` does."""
    scenes: dict[str, list[Window]] = defaultdict(list)
    for path, window in sources:
        if window:
            scenes[path].append(window)
    with reading():
        return labels_over(root, scenes, data)


def why_unread(error: NoScene | RasterioError | OSError) -> Unusable:
    """Why a scene, or a part of it, cannot be read."""
    if isinstance(error, NoScene):
        return Unusable(error.kind, error.detail)
    if isinstance(error, RasterioError):
        return damaged_raster(error)
    return Unusable(UNREAD, str(error.strerror))


def _read_windows(root: Path, sources: Sequence[Source], form: Form, data: DataSettings) -> list[ReadWindow]:
    """Read windows of one scene, which is opened once."""
    assert data.scenes is not None, "windows are of scenes"
    windows = [source.window for source in sources if source.window]
    if not windows:
        found = _cut(root, sources[0].path, data)
        changed = Unusable(UNREAD, "it changed while it was read: start again")
        return [ReadWindow(source, found if isinstance(found, Unusable) else changed, form, data) for source in sources]
    where = located(root, sources[0].path, data.scenes)
    try:
        with open_scene(where, data.scenes) as scene:
            parts = read_parts(scene, windows, form, data.mask_band)
    except (NoScene, RasterioError, OSError) as error:
        if isinstance(where, Remote) and isinstance(error, RasterioError):
            raise where.lost(error) from None
        parts = [Part(why_unread(error))] * len(windows)
    return [
        ReadWindow(source, part.picture, form, data, part.cloud, part.place)
        for source, part in zip(sources, parts, strict=True)
    ]
