"""Files of polygons: GeoJSON, GeoPackage, Shapefile. What classes they say, and where.

GeoJSON is parsed here. The other two are read by GDAL, only after their first bytes said what they are: by its name
alone a file could be one that makes GDAL read further files.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

from gcl_custom.errors import UserError

KNOWN = ("class", "label", "name")
"""What a column of classes is called."""
NEEDS = ("shapely", "pyogrio")
POLYGONAL = (3, 6)
"""Polygons and those of several parts, among shapely's types."""


class Polygons(NamedTuple):
    name: str
    """Of the file."""
    shapes: Sequence[Any]
    """Of shapely, all of them valid, flat polygons with an area."""
    classes: list[str]
    """Of each shape."""
    crs: CRS
    notes: list[str]


class Features(NamedTuple):
    """What a file holds."""

    columns: Mapping[str, Sequence[Any]]
    shapes: Any
    """Array of shapely's; None where there is none."""
    crs: str | None


def read_polygons(path: Path, column: str | None = None) -> Polygons:
    """Read a file of polygons. Those that cross themselves are mended, those without a class passed over.

    Args:
        column: the one of classes. Without it, it is looked for.

    Raises:
        UserError: the file is damaged or of another kind, states no system of coordinates, holds no polygon, or has no
            such column; or a package is not installed.
    """
    if missing := [package for package in NEEDS if importlib.util.find_spec(package) is None]:
        raise UserError(f"data.labels: polygons need {' and '.join(missing)}. Run: pip install 'gcl-custom[polygons]'")
    import shapely

    found = _geojson(path) if path.suffix.lower() in (".geojson", ".json") else _by_gdal(path)
    texts = [_text(value) for value in found.columns[_column(path, found.columns, column)]]
    shapes = shapely.force_2d(found.shapes)
    polygonal = np.isin(shapely.get_type_id(shapes), POLYGONAL)
    crossed = np.flatnonzero(polygonal & ~shapely.is_valid(shapes))
    notes = []
    if len(crossed):
        first = f"number {crossed[0] + 1} ({shapely.is_valid_reason(shapes[crossed[0]])})"
        notes.append(f"polygons of {path.name} that are invalid, mended: {len(crossed):,}, such as {first}")
        shapes[crossed] = shapely.make_valid(shapes[crossed], method="structure", keep_collapsed=False)
    usable = polygonal & (shapely.area(shapes) > 0)
    if others := int((~usable).sum()):
        notes.append(f"features of {path.name} that are no polygons with an area, passed over: {others:,}")
    named = np.array([text is not None for text in texts], dtype=bool)
    if nameless := int((usable & ~named).sum()):
        notes.append(f"polygons of {path.name} without a class, passed over: {nameless:,}")
    kept = np.flatnonzero(usable & named)
    if not len(kept):
        raise UserError(f"data.labels: {path} holds no polygon with a class{'; ' if notes else ''}{'; '.join(notes)}")
    shapes, classes = shapes[kept], [str(texts[number]) for number in kept]
    return Polygons(path.name, shapes, classes, _crs(path, found, shapes), notes)


def _geojson(path: Path) -> Features:
    import shapely

    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"data.labels: {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"data.labels: {path} is no JSON ({error})") from None
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise UserError(f"data.labels: {path} is no GeoJSON: it has no list of features")
    rows = [kept if isinstance(kept := feature.get("properties"), dict) else {} for feature in features]
    names = dict.fromkeys(name for row in rows for name in row)
    stated = content.get("crs")
    try:
        crs = "EPSG:4326" if "crs" not in content else str(stated["properties"]["name"]) if stated else None
    except (TypeError, KeyError):
        raise UserError(f"data.labels: {path} states its system of coordinates in an unknown way: {stated}") from None
    shapes = shapely.from_geojson(
        np.array([json.dumps(feature.get("geometry")) for feature in features], dtype=object), on_invalid="ignore"
    )
    return Features({name: [row.get(name) for row in rows] for name in names}, shapes, crs)


def _by_gdal(path: Path) -> Features:
    import pyogrio.raw
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError as error:
        raise UserError(f"data.labels: {path} cannot be read ({error.strerror})") from None
    package = head.startswith(b"SQLite format 3\0") and head[68:70] in (b"GP", b"\0\0")
    if not (package if path.suffix.lower() == ".gpkg" else head.startswith(b"\0\0\x27\x0a")):
        raise UserError(f"data.labels: {path} is no {'GeoPackage' if path.suffix.lower() == '.gpkg' else 'Shapefile'}")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise UserError(
                f"data.labels: {path} has {len(layers)} layers of shapes ({', '.join(layers)}). It must have one: save "
                f"the one of the classes as a file of its own"
            )
        about, _, wkb, values = pyogrio.raw.read(path, layer=layers[0])
    except (DataSourceError, DataLayerError, RuntimeError, ValueError) as error:
        raise UserError(f"data.labels: {path} cannot be read ({error})") from None
    columns = {str(name): list(column) for name, column in zip(about["fields"], values, strict=True)}
    return Features(columns, shapely.from_wkb(wkb, on_invalid="ignore"), about["crs"])


def _column(path: Path, columns: Mapping[str, Sequence[Any]], given: str | None) -> str:
    there = f"it has {', '.join(columns) or 'none'}"
    if given is not None:
        if given not in columns:
            raise UserError(f"data.label_column: {path} has no column {given!r}; {there}")
        return given
    known = [name for name in columns if name.lower() in KNOWN]
    kinds = {name: {type(value) for value in values if value is not None} for name, values in columns.items()}
    texts = [name for name, types in kinds.items() if types == {str}]
    for names in (known, texts):
        if len(names) == 1:
            return names[0]
    raise UserError(f"data.label_column: which column of {path} says the class? None is told by its name; {there}")


def _text(value: Any) -> str | None:
    """A class as text; None for none."""
    if isinstance(value, float | np.floating):  # GDAL writes whole numbers so where some rows have none
        value = None if np.isnan(value) else int(value) if float(value).is_integer() else value
    return None if value is None else str(value).strip() or None


def _crs(path: Path, found: Features, shapes: Any) -> CRS:
    import shapely

    if not found.crs:
        raise UserError(
            f"data.labels: {path} states no system of coordinates. Save it with the one that it is in, for example: "
            f"ogr2ogr -a_srs EPSG:32633 with_system.gpkg {path.name}"
        )
    try:
        crs = CRS.from_user_input(found.crs)
    except CRSError as error:
        raise UserError(f"data.labels: {path} is in an unknown system of coordinates, {found.crs} ({error})") from None
    left, low, right, high = shapely.total_bounds(shapes)
    if crs.is_geographic and (max(-left, right) > 361 or max(-low, high) > 91):
        raise UserError(
            f"data.labels: {path} is in degrees ({found.crs}), but its coordinates reach from {left:g}, {low:g} to "
            f"{right:g}, {high:g}. GeoJSON without crs is in degrees: save it with the system that it is in"
        )
    return crs
