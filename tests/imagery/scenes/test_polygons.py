import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import shapely

from gcl_custom.errors import UserError
from gcl_custom.imagery.scenes.polygons import read_polygons

SQUARES = [shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 2)]
BOW_TIE = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])


def written(path: Path, shapes: list[Any], crs: str | None = "EPSG:32633", **columns: list[Any]) -> Path:
    """Shapes with columns, as the file's name says."""
    if path.suffix == ".geojson":
        features = [
            {"type": "Feature", "geometry": None if shape is None else shapely.geometry.mapping(shape),
             "properties": {name: values[number] for name, values in columns.items()}}
            for number, shape in enumerate(shapes)
        ]  # fmt: skip
        about: dict[str, Any] = {"type": "FeatureCollection", "features": features}
        path.write_text(json.dumps(about | ({"crs": {"type": "name", "properties": {"name": crs}}} if crs else {})))
        return path
    arrays = [np.array(row, dtype=object if str in map(type, row) else None) for row in columns.values()]
    wkb = shapely.to_wkb(np.array(shapes, dtype=object))
    driver = {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.raw.write(path, wkb, arrays, list(columns), crs=crs, geometry_type="Polygon", driver=driver)
    return path


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.shp"])
def test_classes_and_shapes_of_each_kind_of_file(name: str, tmp_path: Path) -> None:
    found = read_polygons(written(tmp_path / name, SQUARES, use=["wood", "lake"], id=[1, 2]))
    assert (found.classes, found.crs.to_epsg(), found.notes) == (["wood", "lake"], 32633, [])
    assert all(one.equals(other) for one, other in zip(found.shapes, SQUARES, strict=True))


def test_geojson_without_crs_is_in_degrees(tmp_path: Path) -> None:
    assert read_polygons(written(tmp_path / "a.geojson", SQUARES, None, use=["a", "b"])).crs.to_epsg() == 4326


@pytest.mark.parametrize(
    ("columns", "given", "classes"),
    [
        ({"Class": [3, 4], "remark": ["x", "y"]}, None, ["3", "4"]),
        ({"use": ["wood", "lake"], "id": [1, 2]}, None, ["wood", "lake"]),
        ({"use": ["wood", "lake"], "name": ["x", "y"]}, "use", ["wood", "lake"]),
        ({"code": [1.0, 2.5], "name": ["x", "y"]}, "code", ["1", "2.5"]),
        ({"label": [" wood ", None]}, None, ["wood"]),
    ],
)
@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg"])
def test_the_column_of_classes_is_given_or_found(
    columns: dict[str, list[Any]], given: str | None, classes: list[str], name: str, tmp_path: Path
) -> None:
    assert read_polygons(written(tmp_path / name, SQUARES, "EPSG:32633", **columns), given).classes == classes


def test_what_is_no_valid_polygon_with_a_class_is_counted(tmp_path: Path) -> None:
    """A bow tie becomes its two halves, in all a half."""
    shapes = [*SQUARES, BOW_TIE, shapely.Point(1, 1), None, shapely.LineString([(0, 0), (1, 1)])]
    found = read_polygons(written(tmp_path / "a.geojson", shapes, name=["a", "", "b", "c", "d", "e"]))
    assert found.classes == ["a", "b"]
    assert shapely.area(found.shapes[1]) == pytest.approx(0.5)
    assert found.notes == [
        "polygons of a.geojson that are invalid, mended: 1, such as number 3 (Self-intersection[0.5 0.5])",
        "features of a.geojson that are no polygons with an area, passed over: 3",
        "polygons of a.geojson without a class, passed over: 1",
    ]


def several_layers(path: Path) -> None:
    for layer in ("one", "two"):
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array(SQUARES, dtype=object)), [np.array(["a", "b"], dtype=object)], ["class"],
            crs="EPSG:32633", geometry_type="Polygon", driver="GPKG", layer=layer, append=path.exists(),
        )  # fmt: skip


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no JSON": ("a.geojson", lambda path: path.write_text("{"), "is no JSON"),
    "no features": ("a.json", lambda path: path.write_text('{"type": "Topology"}'), "is no GeoJSON"),
    "no column of classes": ("a.gpkg", lambda path: written(path, SQUARES, id=[1, 2]), "it has id"),
    "two columns of texts": (
        "a.geojson", lambda path: written(path, SQUARES, use=["a", "b"], owner=["x", "y"]), "it has use, owner"),
    "no system": ("a.gpkg", lambda path: written(path, SQUARES, None, name=["a", "b"]), "states no system"),
    "metres taken for degrees": (
        "a.geojson", lambda path: written(path, [shapely.box(5e5, 5e6, 6e5, 6e6)], None, name=["a"]), "is in degrees"),
    "no polygon": ("a.geojson", lambda path: written(path, [shapely.Point(0, 0)], name=["a"]), "holds no polygon"),
    "several layers": ("a.gpkg", several_layers, "has 2 layers of shapes (one, two)"),
    "a virtual file": ("a.shp", lambda path: path.write_text("<OGRVRTDataSource/>"), "is no Shapefile"),
    "a picture": ("a.gpkg", lambda path: path.write_bytes(b"\x89PNG" + bytes(80)), "is no GeoPackage"),
    "a truncated package": (
        "a.gpkg", lambda path: path.write_bytes(written(path, SQUARES, name=["a", "b"]).read_bytes()[:999]), "cannot"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(fault: str, tmp_path: Path) -> None:
    name, write, reason = FAULTS[fault]
    write(tmp_path / name)
    with pytest.raises(UserError, match=r"data\.label") as found:
        read_polygons(tmp_path / name)
    assert reason in str(found.value)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojson", SQUARES, name=["a", "b"])
    with pytest.raises(UserError, match="has no column 'crop'; it has name"):
        read_polygons(path, "crop")


def test_an_extra_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcl_custom.imagery.scenes.polygons.NEEDS", ("shapely", "no_such_package"))
    with pytest.raises(UserError, match=r"need no_such_package. Run: pip install 'gcl-custom\[polygons\]'"):
        read_polygons(tmp_path / "a.gpkg")
