"""A scene: an open raster, the grid that its windows are cut from, and its mask of clouds.

h w  pixels of a part of the grid
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from jaxtyping import Bool

from gcl_custom.arrays import NUMPY
from gcl_custom.counted import counted
from gcl_custom.imagery.scenes import grid, ground
from gcl_custom.imagery.scenes.array_scenes import opened_array
from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.opening import NoScene, driver_of, opened
from gcl_custom.imagery.scenes.rasters import orientation_of
from gcl_custom.imagery.scenes.remote import Remote, opened_remote
from gcl_custom.recipe.imagery import CloudSettings, ScenesSettings

LARGEST_BLOCK = 2**26
"""Most values of a block. A file that is stored in larger ones cannot be read window by window."""


class Clouds(NamedTuple):
    """Where a mask is: in a band of an open raster."""

    dataset: rasterio.DatasetReader
    band: int
    values: list[int]


class Scene(NamedTuple):
    dataset: rasterio.DatasetReader
    ground: Ground
    """Of the windows."""
    clouds: Clouds | None
    remote: Remote | None = None
    """Where it lies, if that is on another machine."""

    @property
    def own(self) -> bool:
        """Whether windows are cut from the file's own pixels."""
        return self.ground == Ground.of(self.dataset)

    def windows(self, side: int, overlap: int) -> list[Rectangle]:
        """All windows, in the order in which they are read.

        Raises:
            NoScene: there is none, or there are too many to name.
        """
        width, height = self.ground.width, self.ground.height
        if not (found := grid.count(width, height, side, overlap)):
            raise NoScene(
                "smaller than a window", f"{width} x {height} px, data.scenes.tile is {side}: lower it, or remove it"
            )
        if found > grid.MOST_WINDOWS:
            raise NoScene("too large", f"{width:,} x {height:,} px, {found:,} windows; take larger ones")
        return grid.windows(width, height, side, overlap, self.dataset.block_shapes[0] if self.own else (512, 512))

    def cloudy(self, part: Rectangle) -> Bool[np.ndarray, "h w"] | None:
        """Where the mask says cloud; None without a mask."""
        if self.clouds is None:
            return None
        dataset, band, values = self.clouds
        # A mask without coordinates is of the scene's size, and lies where the scene does.
        place, mask = self.ground.part(part), Ground.of(dataset if dataset.crs and self.dataset.crs else self.dataset)
        if self.own and (
            dataset is self.dataset or (mask.width, mask.height) == (self.ground.width, self.ground.height)
        ):
            return np.isin(read(dataset, band, part), values)
        inside = ground.shown_part(mask, place)
        if inside is None:
            return np.zeros((place.height, place.width), bool)
        cloud = np.isin(read(dataset, band, inside), values)
        return ground.nearest(cloud, mask.part(inside), place) > 0


def read(dataset: rasterio.DatasetReader, band: int, part: Rectangle) -> np.ndarray:
    """One band of a part of a raster."""
    return dataset.read(band, window=grid.ends(part))


@contextmanager
def open_scene(path: Path | Remote, settings: ScenesSettings) -> Iterator[Scene]:
    """Open a scene, and its mask if the settings name one.

    Raises:
        NoScene: it is no raster, is not whole, or cannot be read window by window; or its mask cannot.
        OSError: the system does not let it be read.
        rasterio.errors.RasterioError: it is damaged.
    """
    with ExitStack() as stack:
        dataset = stack.enter_context(open_raster(path))
        own = Ground.of(dataset)
        place = own if settings.metres is None else ground.resampled(own, settings.metres)
        clouds = _clouds(stack, path, dataset, settings.cloud) if settings.cloud else None
        yield Scene(dataset, place, clouds, path if isinstance(path, Remote) else None)


@contextmanager
def open_raster(path: Path | Remote) -> Iterator[rasterio.DatasetReader]:
    """Open a raster that can be read window by window; raises as ``open_scene`` does."""
    if isinstance(path, Remote):
        with opened_remote(path) as dataset:
            _require_windows(dataset)
            yield dataset
        return
    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(NUMPY):
        with opened_array(path) as dataset:
            yield dataset
        return
    driver = driver_of(head)
    if driver is None:
        raise NoScene(
            "no raster",
            "scenes are GeoTIFF, JPEG 2000 or arrays of NumPy; what other programs write so: rio convert PICTURE "
            "SCENE.tif",
        )
    with opened(path, driver) as dataset:
        _require_windows(dataset)
        if _orientation(path) != 1:
            raise NoScene("to be turned", "its orientation tag says so; save it upright, without the tag")
        _require_whole(path, dataset)
        yield dataset


def _require_windows(dataset: rasterio.DatasetReader) -> None:
    """Refuse a raster that cannot be read window by window."""
    tall, wide = dataset.block_shapes[0]
    values = tall * wide * (dataset.count if dataset.interleaving == rasterio.enums.Interleaving.pixel else 1)
    if values > LARGEST_BLOCK:
        raise NoScene(
            "blocks too large",
            f"it is stored in blocks of {wide:,} x {tall:,} px, each of which is read whole; save it in tiles: rio "
            f"convert SCENE.tif TILED.tif --co tiled=yes --co compress=deflate",
        )
    if pages := len(dataset.subdatasets):
        raise NoScene("several pages", f"{pages} pages; save each as a file of its own, or as bands of one page")


def _orientation(path: Path) -> int:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return orientation_of(content)


def _require_whole(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Refuse a TIFF whose last block lies beyond its end."""
    if dataset.driver != "GTiff":
        return
    size = path.stat().st_size
    for band in dataset.indexes:
        column, row = grid.last_block(dataset.width, dataset.height, dataset.block_shapes[band - 1])
        start, length = (
            int(dataset.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band) or 0)
            for what in ("OFFSET", "SIZE")
        )
        if start + length > size:
            raise NoScene("truncated or damaged", f"its last block ends at byte {start + length:,} of {size:,}")


def mask_beside(path: Path, ending: str) -> Path:
    """The file beside a scene whose name has this end, such as its mask of clouds."""
    return path.with_name(f"{path.stem}{ending}")


def _clouds(stack: ExitStack, path: Path | Remote, dataset: rasterio.DatasetReader, settings: CloudSettings) -> Clouds:
    if settings.band is not None:
        if settings.band > dataset.count:
            raise NoScene(
                "no cloud mask", f"data.scenes.cloud.band is {settings.band}; it has {counted(dataset.count, 'band')}"
            )
        return Clouds(dataset, settings.band, settings.values)
    assert settings.file is not None, "a mask is a band or a file"
    beside = path.beside(settings.file) if isinstance(path, Remote) else mask_beside(path, settings.file)
    name = beside.address if isinstance(beside, Remote) else beside.name
    try:
        mask = stack.enter_context(open_raster(beside))
    except OSError as error:  # also of rasterio
        raise NoScene("no cloud mask", f"{name}: {error.strerror or error}") from None
    except NoScene as problem:
        raise NoScene("no cloud mask", f"{name}: {problem}") from None
    if not (mask.crs and dataset.crs) and mask.shape != dataset.shape:
        raise NoScene("no cloud mask", f"{name} has no coordinates, and other sides than the scene")
    return Clouds(mask, 1, settings.values)
