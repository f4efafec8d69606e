"""Small labelled imagery, made on the spot."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

COLOURS = {"lake": (30, 60, 140, 20), "forest": (40, 110, 50, 160), "field": (150, 140, 70, 120)}
NORTH, EAST, PIXEL = 5_500_000.0, 500_000.0, 10.0
"""Corner of the first GeoTIFF in EPSG:32633, and the side of its pixels, in metres; each one lies 1 km further east."""


def draw(folder: Path, bands: int, each: int, size: int) -> None:
    """Class folders of PNGs, or with four bands of GeoTIFFs of uint16, whose colours overlap between the classes."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            mean = np.array(colour[:bands]) + rng.normal(0, 25, bands)
            pixels = np.clip(rng.normal(mean, 40, (size, size, bands)), 1, 255 if bands == 3 else 1000)
            if bands == 3:
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
                continue
            place = rasterio.Affine(PIXEL, 0, EAST + 1000 * i, 0, -PIXEL, NORTH)
            about: dict[str, Any] = {"count": bands, "height": size, "width": size, "dtype": "uint16"}
            with rasterio.open(
                folder / name / f"{i}.tif", "w", driver="GTiff", crs="EPSG:32633", transform=place, **about
            ) as file:
                file.write((40 * pixels).astype(np.uint16).transpose(2, 0, 1))
