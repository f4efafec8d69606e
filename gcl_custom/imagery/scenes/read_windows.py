"""Reading windows of an open scene: what holds them all is read at once, and cut."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from rasterio.errors import RasterioError

from gcl_custom.imagery.scenes import ground
from gcl_custom.imagery.scenes.grid import Rectangle, bounds, ends
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.places import Place, places
from gcl_custom.imagery.scenes.rasters import crop, damaged_raster, read_raster
from gcl_custom.imagery.scenes.scene import Scene
from gcl_custom.imagery.values.forms import Form, Picture, Unusable


class Part(NamedTuple):
    """What was read of a window."""

    picture: Picture | Unusable
    cloud: float = 0.0
    """Share of its pixels that a mask calls cloudy."""
    place: Place | None = None


def read_parts(scene: Scene, windows: Sequence[Rectangle], form: Form, without: int | None = None) -> list[Part]:
    """Read windows of a scene. Where a part of it is damaged, the windows that lie there are unusable.

    Raises:
        UserError: the connection to a scene on another machine is lost.

    Args:
        form: of the data set.
        without: number of a band, from 1, that is none of the tiles.
    """
    try:
        parts = _at_once(scene, windows, form, without)
    except RasterioError:  # a window or two lie in what is damaged
        if scene.remote:
            scene.remote.require_there()
        parts = [_alone(scene, window, form, without) for window in windows]
    return [part._replace(place=place) for part, place in zip(parts, places(scene.ground, windows), strict=True)]


def sameness(picture: Picture) -> float:
    """Share of pixels that equal their right neighbour in all bands, among those where both hold data."""
    same = (picture.pixels[:, :, 1:] == picture.pixels[:, :, :-1]).all(axis=0)
    if picture.valid is not None:
        same = same[picture.valid[:, 1:] & picture.valid[:, :-1]]
    return float(same.mean()) if same.size else 0.0


def _alone(scene: Scene, window: Rectangle, form: Form, without: int | None) -> Part:
    try:
        return _at_once(scene, [window], form, without)[0]
    except RasterioError as error:
        if scene.remote:
            scene.remote.require_there()
        return Part(damaged_raster(error))


def _at_once(scene: Scene, windows: Sequence[Rectangle], form: Form, without: int | None) -> list[Part]:
    around = bounds(windows)
    try:
        picture = _read(scene, around, form, without)
    except Unusable as problem:
        return [Part(problem)] * len(windows)
    cloudy = scene.cloudy(around)
    parts = []
    for column, row, width, height in windows:
        inner = (column - around[0], row - around[1], width, height)
        parts.append(Part(crop(picture, inner), _share(cloudy, inner)))
    return parts


def _share(cloudy: Bool[np.ndarray, "h w"] | None, window: Rectangle) -> float:
    rows, columns = ends(window)
    return 0.0 if cloudy is None else float(cloudy[slice(*rows), slice(*columns)].mean())


def _read(scene: Scene, part: Rectangle, form: Form, without: int | None) -> Picture:
    if scene.own:
        return read_raster(scene.dataset, part, form, without)
    own, onto = Ground.of(scene.dataset), scene.ground.part(part)
    inside = ground.shown_part(own, onto)
    if inside is None:
        nothing = np.zeros((onto.height, onto.width), bool)
        return Picture(np.zeros((form.bands, *nothing.shape), form.dtype), nothing, False)
    pixels, valid, alpha, by_band = read_raster(scene.dataset, inside, form, without)
    masks = by_band if by_band is not None or valid is None else valid[None]
    pixels, there = ground.resample(pixels, masks, own.part(inside), onto)
    valid = np.asarray(there.any(axis=0))
    alike = len(there) == 1 or bool((there == valid).all())
    return Picture(pixels, None if valid.all() else valid, alpha, None if alike else there)
