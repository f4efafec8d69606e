"""Small images, written on the spot."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from gcl_custom.imagery.decoding import reading


def colours(seed: int, side: int = 24) -> np.ndarray:
    """Random red, green and blue, (side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def class_folders(root: Path, count: int = 30) -> Path:
    """PNGs of 24 x 24 px, in turn in the folders forest and water."""
    for number in range(count):
        place = root / ("forest", "water")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours(number)).save(place / f"{number:03d}.png")
    return root


def scenes_border(root: Path, tiles: int, empty: int) -> Path:
    """GeoTIFFs of 16 px as they are cut from a scene: some whole, and then some with three quarters of nodata."""
    root.mkdir(exist_ok=True)
    for number in range(tiles + empty):
        values = np.random.default_rng(number).integers(1, 9000, (2, 16, 16)).astype(np.uint16)
        values[:, 4:] *= number < tiles
        tiff(root / f"{number:03d}.tif", values, nodata=0)
    return root


def several_labels(root: Path) -> Path:
    """40 PNGs in a table: each has the label a, every other one b, too, and the last four have no row."""
    files = sorted(path.relative_to(root).as_posix() for path in class_folders(root, 40).rglob("*.png"))
    rows = [f"{file},{'a;b' if number % 2 else 'a'}" for number, file in enumerate(files[:-4])]
    (root / "labels.csv").write_text("\n".join(["file,labels", *rows]))
    return root


def tiff(path: Path, pixels: np.ndarray, **options: object) -> bytes:
    """Write bands, (c, h, w), as a TIFF, and return its bytes."""
    bands, height, width = pixels.shape
    about = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    with reading(), rasterio.open(path, "w", **about, **options) as target:
        target.write(pixels)
    return path.read_bytes()
