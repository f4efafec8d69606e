"""Polygons over made scenes, written on the spot."""

import json
from pathlib import Path
from typing import Any

from rasterio import Affine
from rasterio.warp import transform

Corners = list[tuple[float, float]]


def box(left: float, top: float, right: float, bottom: float) -> Corners:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def write_polygons(
    path: Path,
    shapes: list[tuple[str, list[Corners]]],
    affine: Affine,
    crs: str = "EPSG:32633",
    of: str = "EPSG:32633",
) -> None:
    """Write polygons as GeoJSON in ``crs``. Their rings are in pixels of a scene, which is in the system ``of``."""

    def moved(ring: Corners) -> list[tuple[float, float]]:
        x, y = transform(of, crs, *zip(*(affine @ corner for corner in ring), strict=True))
        return list(zip(x, y, strict=True))

    features = [
        {"type": "Feature", "properties": {"class": name, "id": number},
         "geometry": {"type": "Polygon", "coordinates": [moved(ring) for ring in rings]}}
        for number, (name, rings) in enumerate(shapes)
    ]  # fmt: skip
    about: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs != "EPSG:4326":
        about["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(about))
