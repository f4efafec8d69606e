"""The overlapping windows of a scene, read strip by strip; of one strip after another only the pixels of a few windows
are in memory.

h w  pixels of a window
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Real
from rasterio import Affine
from rasterio.errors import RasterioError

from gcl_custom.imagery.decoding import Unusable
from gcl_custom.imagery.read_tile import Read, ReadWindow, read_all, why_unread
from gcl_custom.imagery.scenes.ground import Ground
from gcl_custom.imagery.scenes.opening import NoScene
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.scenes.scene import open_scene
from gcl_custom.imagery.source import Source, Window
from gcl_custom.imagery.values.forms import Form
from gcl_custom.maps.blending import Axis
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings

STRIP = (256, 1024)
"""Least and most pixels of a scene's height that a strip of windows begins in; between them, a row of its blocks."""


class Seen(NamedTuple):
    """A window, what the network sees of it or the reason why it is unusable, and which pixels hold data."""

    source: Source
    pixels: Real[np.ndarray, "c s s"] | Unusable
    valid: Bool[np.ndarray, "h w"] | None
    """None if all do."""
    place: Place | None


@dataclass(frozen=True)
class SceneWindows:
    """Windows of one scene.

    Attributes:
        ground: the grid that they are cut from.
        block: height and width of the blocks that are read at once.
    """

    root: Path
    name: str
    data: DataSettings
    ground: Ground
    block: tuple[int, int]
    down: Axis
    across: Axis

    @classmethod
    def of(cls, root: Path, name: str, data: DataSettings, step: int) -> "SceneWindows":
        """The windows of the scene ``root / name``, ``step`` pixels from one to the next.

        Raises:
            Unusable: it is no scene, is damaged, or is smaller than a window.
        """
        assert data.scenes is not None, "windows are of scenes"
        side = data.scenes.side(data.size)
        try:
            name.encode()
            with open_scene(root / name, data.scenes) as scene:
                ground = scene.ground
                if min(ground.width, ground.height) < side:
                    size = f"{ground.width} x {ground.height} px, where a tile of the run is cut from {side} x {side}"
                    raise NoScene("smaller than a window", size)
                scene.windows(side, 0)  # which says why there is none
                tall, wide = scene.dataset.block_shapes[0] if scene.own else (512, 512)
        except UnicodeEncodeError:
            raise Unusable("name is not UTF-8", "rename the file or its folder") from None
        except (NoScene, RasterioError, OSError) as error:
            raise why_unread(error) from None
        least, most = STRIP
        block = (min(max(tall, least), most), max(wide, least))
        down, across = (Axis(length, side, step) for length in (ground.height, ground.width))
        return cls(root, name, data, ground, block, down, across)

    @property
    def cells(self) -> Ground:
        """The grid of the map."""
        (a, b, c, d, e, f), step = self.ground.transform[:6], self.down.step
        place = Affine(a * step, b * step, c, d * step, e * step, f)
        return Ground(self.ground.crs, place, self.across.cells, self.down.cells)

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.down.windows) * len(self.across.windows)

    def strips(self, form: Form) -> Iterator[tuple[Iterator[Seen], int | None]]:
        """The windows, strip by strip, and the row of pixels in which the next strip begins."""
        tall, wide = self.block
        strips = [list(rows) for _, rows in groupby(self.down.windows, lambda row: row // tall)]
        across = [list(columns) for _, columns in groupby(self.across.windows, lambda column: column // wide)]
        for rows, following in zip(strips, [*strips[1:], None], strict=True):
            yield self._read(rows, across, form), following[0] if following else None

    def _read(self, rows: Sequence[int], across: Sequence[Sequence[int]], form: Form) -> Iterator[Seen]:
        side = self.down.side
        corners = ((row, column) for columns in across for row, column in product(rows, columns))
        sources = [Source(self.name, Window(column, row, side, side)) for row, column in corners]
        return read_all(self.root, sources, form, self.data, _seen)


def for_maps(data: DataSettings) -> DataSettings:
    """The settings of a run's tiles, for windows of a map: those that a training would leave out as too even count."""
    scenes = (data.scenes or ScenesSettings()).model_copy(update={"sameness": 1.0})
    return data.model_copy(update={"scenes": scenes})


def _seen(found: Read) -> Seen:
    window = found.source.window
    assert isinstance(found, ReadWindow), "windows are of scenes"
    assert window is not None, "windows are of scenes"
    tile, picture = found.tile(), found.picture
    if isinstance(picture, Unusable):
        return Seen(found.source, picture, np.zeros((window.height, window.width), bool), None)
    pixels = tile if isinstance(tile, Unusable) else tile.pixels
    return Seen(found.source, pixels, picture.valid, found.place())
