"""Scenes larger than a tile, written on the spot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine

from gcl_custom.imagery.decoding import Form, Tile, Unusable, reading
from gcl_custom.imagery.read_tile import cut, read_all
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.imagery import DataSettings, ScenesSettings, SplitSettings

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_500_000)
"""10 m a pixel, in metres of UTM."""


def grid_from(grid: Affine, column: float = 0, row: float = 0, scale: float = 1) -> Affine:
    """The grid of pixels ``scale`` times as large, from this pixel on."""
    a, b, c, d, e, f = grid[:6]
    return Affine(a * scale, b * scale, a * column + b * row + c, d * scale, e * scale, d * column + e * row + f)


def values(height: int, width: int, bands: int = 2, seed: int = 0) -> np.ndarray:
    """Random values of uint16, none of them 0."""
    return np.random.default_rng(seed).integers(1, 9000, (bands, height, width)).astype(np.uint16)


def write_scene(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write bands, (c, h, w), as a GeoTIFF at 10 m a pixel, in blocks of 32 px, unless the options say otherwise."""
    bands, height, width = pixels.shape
    about: dict[str, Any] = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    ours: dict[str, Any] = {
        "driver": "GTiff", "crs": "EPSG:32633", "transform": NORTH_UP,
        "tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate",
    }  # fmt: skip
    kept = {name: value for name, value in (ours | options).items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with reading(), rasterio.open(path, "w", **about, **kept) as target:
        target.write(pixels)


def settings(root: Path, size: int = 16, **scenes: Any) -> DataSettings:
    """Settings that cut every file of a folder; keys other than of data.scenes have ``data_`` before their names.

    Scenes of the tests lie on the same ground, so their windows may share it unless the test says otherwise.
    """
    scenes = {"data_split": SplitSettings(buffer_km=None), **scenes}
    data = {name.removeprefix("data_"): scenes.pop(name) for name in list(scenes) if name.startswith("data_")}
    return DataSettings(root=str(root), size=size, scenes=ScenesSettings(**scenes), **data)


def tiles_of(data: DataSettings, form: Form, paths: Sequence[str] | None = None) -> dict[Source, Tile | Unusable]:
    """The tile of every window, or why there is none."""
    root = Path(data.root)
    names = paths or sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    sources = cut(root, names, data)
    with reading():
        return dict(zip(sources, read_all(root, sources, form, data, lambda found: found.tile()), strict=True))
