"""How large a share of each window of a scene the polygons of each class cover.

It is computed in pixels of the scene's grid, where a window is a rectangle however the scene lies.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from gcl_custom.imagery.scenes.grid import Rectangle
from gcl_custom.imagery.scenes.ground import Ground, border, moved
from gcl_custom.imagery.scenes.label_raster import Shares
from gcl_custom.imagery.scenes.polygons import POLYGONAL, Polygons
from gcl_custom.imagery.scenes.scene import Scene

PIECES = 64
"""A straight edge of a polygon is bent by another projection: edges are cut into so many pieces across a scene."""
MARGIN = 0.05
"""Around a scene, as a share of its sides, that polygons are cut off at: its border is known by some points."""


class PolygonLabels:
    """Polygons that label windows."""

    def __init__(self, polygons: Polygons) -> None:
        import shapely

        self._polygons = polygons
        self._tree = shapely.STRtree(polygons.shapes)
        self._touched = np.zeros(len(polygons.shapes), dtype=bool)
        self._looked = ""

    def shares(self, scene: Scene, windows: Sequence[Rectangle]) -> list[Shares] | None:
        """The share of each window that each class covers; None if the scene lies nowhere.

        Where polygons of one class overlap, the ground below counts once.
        """
        import shapely

        ground = scene.ground
        if not ground.crs:
            return None
        chosen, parts = self._in_pixels(ground)
        corners = np.array(windows, dtype=float).reshape(-1, 4)
        boxes = shapely.box(*corners[:, :2].T, *(corners[:, :2] + corners[:, 2:]).T)
        shapely.prepare(parts)
        window, part = shapely.STRtree(parts).query(boxes, predicate="intersects")
        pieces = boxes[window]
        cut = ~shapely.covers(parts[part], pieces)
        pieces[cut] = shapely.intersection(parts[part[cut]], pieces[cut])
        areas = shapely.area(pieces)
        self._touched[chosen[part[areas > 0]]] = True
        groups: dict[tuple[int, str], list[int]] = defaultdict(list)
        for number in np.flatnonzero(areas > 0).tolist():
            groups[int(window[number]), self._polygons.classes[chosen[part[number]]]].append(number)
        found: list[dict[str, float]] = [{} for _ in windows]
        for (place, name), members in sorted(groups.items()):
            area = areas[members[0]] if len(members) == 1 else shapely.area(shapely.union_all(pieces[members]))
            found[place][name] = float(area) / (windows[place][2] * windows[place][3])
        return list(found)

    @property
    def notes(self) -> list[str]:
        name, left = self._polygons.name, int((~self._touched).sum())
        told = f"polygons of {name} that touch no window: {left:,} of {len(self._touched):,}"
        return [*self._polygons.notes, *([told] if left else [])]

    @property
    def where(self) -> str:
        """Where the polygons lie, and the first scene."""
        import shapely

        bounds = "{:g}, {:g} to {:g}, {:g}".format(*shapely.total_bounds(self._polygons.shapes))
        return f"polygons at {bounds} in {self._polygons.crs.to_string()}{self._looked or '; no scene has coordinates'}"

    def _in_pixels(self, ground: Ground) -> tuple[np.ndarray, Any]:
        """Numbers of the polygons near a scene, and what of them lies there, in pixels of its grid."""
        import shapely

        crs, shapes = self._polygons.crs, self._polygons.shapes
        x, y = moved(ground.crs, crs, *border(ground))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object)
        reach = MARGIN * max(np.ptp(x), np.ptp(y))
        left, low, right, high = x.min() - reach, y.min() - reach, x.max() + reach, y.max() + reach
        self._looked = self._looked or f"; the first scene lies there at {left:g}, {low:g} to {right:g}, {high:g}"
        around = shapely.box(left, low, right, high)
        chosen = np.sort(self._tree.query(around))
        parts = shapely.intersection(np.asarray(shapes, dtype=object)[chosen], around)
        if crs != ground.crs:
            parts = shapely.segmentize(parts, max(right - left, high - low) / PIECES)
        onto = Ground(ground.crs, ~ground.transform, ground.width, ground.height)
        parts = shapely.transform(parts, lambda points: np.stack(onto.at(*moved(crs, ground.crs, *points.T)), axis=1))
        return chosen, np.array([_polygonal(part) for part in parts], dtype=object)


def _polygonal(shape: Any) -> Any:
    """What of a shape has an area, valid also where moving its corners made edges cross."""
    import shapely

    if not shapely.is_valid(shape):
        shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    if shapely.get_type_id(shape) in POLYGONAL:
        return shape
    parts = shapely.get_parts(shape)
    return shapely.union_all(parts[np.isin(shapely.get_type_id(parts), POLYGONAL)])
