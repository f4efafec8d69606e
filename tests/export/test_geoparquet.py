"""Points as the specification of GeoParquet 1.1 has them, read back without what wrote them."""

import json
import struct

import numpy as np

from gcl_custom.export.geoparquet import about, around, points
from gcl_custom.imagery.scenes.places import Place

PLACES = [
    Place(507_160.0, 5_499_840.0, "EPSG:32633", 15.1, 49.65),
    None,
    Place(3.0, 4.0, "LOCAL_CS", None, None),
    Place(0.0, 0.0, "EPSG:4326", -70.25, float("inf")),
    Place(-70.25, -12.5, "EPSG:4326", -70.25, -12.5),
]


def test_points_are_well_known_binary_in_longitude_and_latitude() -> None:
    column, _ = points(PLACES)
    found = column.to_pylist()
    assert [found[row] is None for row in range(5)] == [False, True, True, True, False]
    for row in (0, 4):
        order, kind = found[row][0], int(np.frombuffer(found[row], "<u4", 1, 1)[0])
        assert (order, kind, len(found[row])) == (1, 1, 21)
        assert struct.unpack("<dd", found[row][5:]) == (PLACES[row].longitude, PLACES[row].latitude)


def test_the_metadata_has_what_the_specification_asks_for() -> None:
    found = json.loads(about(points(PLACES)[1]))
    assert found["version"] == "1.1.0"
    column = found["columns"][found["primary_column"]]
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert column["bbox"] == [-70.25, -12.5, 15.1, 49.65]
    assert "crs" not in column, "without it, longitude and latitude of OGC:CRS84 are meant"


def test_boxes_of_parts_make_that_of_all() -> None:
    boxes = [points(PLACES[part])[1] for part in (slice(1), slice(1, 4), slice(4, 5))]
    assert boxes[1] is None
    assert around(around(boxes[0], boxes[1]), boxes[2]) == points(PLACES)[1]
    assert around(None, boxes[2]) == boxes[2]


def test_tiles_without_any_place_have_no_extent() -> None:
    column, box = points([None, None])
    assert column.to_pylist() == [None, None]
    assert "bbox" not in json.loads(about(box))["columns"]["geometry"]
