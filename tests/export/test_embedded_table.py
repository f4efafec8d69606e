"""The table of representations: columns and their types, with and without places."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.export.embedded_table import Table, arrow
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.source import Source, Window


@pytest.fixture(scope="module")
def known(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(make_run(tmp_path_factory.mktemp("table")), "gcl", None)


def test_a_row_says_which_tile_where_and_what(known: Any) -> None:
    place = Place(500_000.0, 5_500_000.0, "EPSG:32633", 15.0, 49.6)
    representations = np.arange(8, dtype=np.float32).reshape(2, 4)
    table = arrow(
        Table([Source("a.tif", Window(0, 8, 16, 16)), Source("b.png")], [place, None], representations), known
    )
    assert table["file"].to_pylist() == ["a.tif#0000000,0000008,0000016,0000016", "b.png"]
    assert table["representation"].to_pylist() == representations.tolist()
    assert table["x"].to_pylist() == [500_000.0, None]
    assert table["crs"].to_pylist() == ["EPSG:32633", None]
    assert table["geometry"].null_count == 1


def test_types_do_not_depend_on_what_is_known(known: Any) -> None:
    nowhere = arrow(Table([Source("b.png")], [None], np.zeros((1, 4), np.float32)), known)
    empty = arrow(Table([], [], np.zeros((0, 4), np.float32)), known)
    assert nowhere.schema.equals(empty.schema)
    assert [str(nowhere.schema.field(name).type) for name in ("crs", "x", "geometry")] == ["string", "double", "binary"]
