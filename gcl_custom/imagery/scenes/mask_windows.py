"""Masks of scenes: rasters with a class number a pixel, cut as the scene's windows are.

A mask has the sides of its scene, or coordinates. With coordinates it may have another resolution or projection: each
pixel of a window takes the nearest number.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import Bool, Shaped
from rasterio.errors import RasterioError

from gcl_custom.imagery.scenes.grid import Rectangle, ends
from gcl_custom.imagery.scenes.ground import Ground, nearest, shown_part
from gcl_custom.imagery.scenes.opening import PNG, opened
from gcl_custom.imagery.scenes.rasters import damaged_raster, forget_error
from gcl_custom.imagery.scenes.remote import Remote
from gcl_custom.imagery.scenes.scene import Scene, open_raster
from gcl_custom.imagery.values.forms import Unusable
from gcl_custom.imagery.values.mask_numbers import Mask, mask_of
from gcl_custom.measures.overlap import IGNORED


@contextmanager
def open_mask(path: Path | Remote) -> Iterator[rasterio.DatasetReader]:
    """Open a mask: a raster as a scene is, or a PNG of this machine; raises as ``open_raster`` does."""
    head = b""
    if isinstance(path, Path):
        with path.open("rb") as file:
            head = file.read(len(PNG))
    with opened(path, "PNG") if isinstance(path, Path) and head == PNG else open_raster(path) as dataset:
        yield dataset


def masks_of_windows(
    scene: Scene, mask: rasterio.DatasetReader, windows: Sequence[Rectangle], remote: Remote | None = None
) -> list[Mask | Unusable]:
    """The mask of each window, on the window's pixels, or why there is none.

    Args:
        remote: where the mask lies, if that is on another machine.

    Raises:
        UserError: the connection to that machine is lost.
    """
    file = Ground.of(scene.dataset)
    alike = (mask.width, mask.height) == (file.width, file.height)
    if not alike and not (mask.crs and file.crs):
        detail = f"{mask.width} x {mask.height} px, the scene {file.width} x {file.height} px; it has no coordinates"
        return [Unusable("another size than its image", detail)] * len(windows)
    own = Ground.of(mask) if mask.crs and file.crs else file
    found: list[Mask | Unusable] = []
    for window in windows:
        try:
            found.append(
                mask_of(*_read(mask, window))
                if own == scene.ground
                else _resampled(mask, own, scene.ground.part(window))
            )
        except Unusable as problem:
            found.append(problem)
        except RasterioError as error:
            forget_error(mask)
            if remote:
                remote.require_there()
            found.append(damaged_raster(error))
    return found


def _read(mask: rasterio.DatasetReader, part: Rectangle) -> tuple[Shaped[np.ndarray, "c h w"], Bool[np.ndarray, "h w"]]:
    """The numbers of a part of a mask, and where it does not say that there is none."""
    values = mask.read(window=ends(part))
    none = mask.driver == "PNG" or mask.nodata is None or mask.nodata == IGNORED
    return values, np.ones(values.shape[1:], bool) if none else values[0] != mask.nodata


def _resampled(mask: rasterio.DatasetReader, own: Ground, onto: Ground) -> Mask:
    """The mask on another grid; none where it does not reach."""
    inside = shown_part(own, onto)
    if inside is None:
        return Mask(np.full((onto.height, onto.width), IGNORED, np.uint8), hidden=True)
    read = mask_of(*_read(mask, inside))
    # From 1 on, as 0 is what lies beyond the mask.
    numbers = nearest(read.values.astype(np.uint16) + 1, own.part(inside), onto).astype(np.int32) - 1
    beyond = numbers < 0
    return Mask(np.where(beyond, IGNORED, numbers).astype(np.uint8), read.hidden or bool(beyond.any()))
