"""Files of representations that are written in parts: they are those of the whole table, and hold no memory."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gcl_custom.export import embedded_files
from gcl_custom.export.backbone_of_run import load_backbone
from gcl_custom.export.embedded_files import writing_to, written
from gcl_custom.export.embedded_table import Table, arrow
from gcl_custom.imagery.scenes.places import Place
from gcl_custom.imagery.source import Source

SIZES = (3, 0, 5, 6)


@pytest.fixture(scope="module")
def known(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(make_run(tmp_path_factory.mktemp("files")), "gcl", None)


def rows(known: Any, first: int, count: int) -> Table:
    """Rows with places, every third of which is unknown."""
    numbers = range(first, first + count)
    places = [Place(n, -n, "EPSG:4326", float(n), float(-n)) if n % 3 else None for n in numbers]
    representations = np.random.default_rng(first).normal(size=(count, known.width)).astype(np.float32)
    return Table([Source(f"{n}.png") for n in numbers], places, representations)


def parts(known: Any) -> list[Table]:
    return [rows(known, sum(SIZES[:number]), count) for number, count in enumerate(SIZES)]


def whole(known: Any) -> Table:
    some = parts(known)
    return Table(
        [source for part in some for source in part.sources],
        [place for part in some for place in part.places],
        np.concatenate([part.representations for part in some]),
    )


def test_parquet_is_that_of_the_whole_table(known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns, its types, what its metadata say, and its row groups."""
    monkeypatch.setattr(embedded_files, "ROWS", 4)
    for places in (True, False):
        some = parts(known)
        if not places:
            some = [part._replace(places=[None] * len(part.places)) for part in some]
        (tmp_path / "a.parquet").unlink(missing_ok=True)
        with writing_to(tmp_path / "a.parquet", known, 14) as add:
            for part in some:
                add(part)
            assert not (tmp_path / "a.parquet").exists(), "it is there when it is whole"
        expected = whole(known) if places else whole(known)._replace(places=[None] * sum(SIZES))
        columns = arrow(expected, known)
        pyarrow.parquet.write_table(columns, tmp_path / "b.parquet", row_group_size=4)
        found, wanted = (pyarrow.parquet.ParquetFile(tmp_path / f"{name}.parquet") for name in "ab")
        assert found.read().equals(columns, check_metadata=True)
        for file in (found, wanted):
            groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            assert groups == [4, 4, 4, 2]
        theirs = {key: value for key, value in wanted.metadata.metadata.items() if key != b"ARROW:schema"}
        assert {key: value for key, value in found.metadata.metadata.items() if key != b"ARROW:schema"} == theirs


def test_an_array_is_that_of_numpy(known: Any, tmp_path: Path) -> None:
    with writing_to(tmp_path / "a.npy", known, 14) as add:
        for part in parts(known):
            add(part)
    saved = io.BytesIO()
    np.save(saved, whole(known).representations)
    assert (tmp_path / "a.npy").read_bytes() == saved.getvalue()
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines()
    assert lines[:3] == ["file,x,y,crs,longitude,latitude", "0.png,,,,,", "1.png,1,-1,EPSG:4326,1.0,-1.0"]
    assert len(lines) == 1 + sum(SIZES)


@pytest.mark.parametrize("name", ["a.parquet", "a.npy"])
def test_after_an_error_what_was_there_stays(known: Any, tmp_path: Path, name: str) -> None:
    for path in written(tmp_path / name):
        path.write_text("earlier")

    def fail() -> None:
        with writing_to(tmp_path / name, known, 14) as add:
            add(rows(known, 0, 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(tmp_path.iterdir()) == sorted(written(tmp_path / name))
    assert all(path.read_text() == "earlier" for path in tmp_path.iterdir())


def test_rows_that_are_written_hold_no_memory(known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_files, "ROWS", 64)
    batch = rows(known, 0, 16)
    held = []
    with writing_to(tmp_path / "a.parquet", known, 16 * 200) as add:
        for _ in range(200):
            add(batch)
            held.append(pa.total_allocated_bytes())
    assert max(held[100:]) <= max(held[:100]) + batch.representations.nbytes
    assert pyarrow.parquet.read_metadata(tmp_path / "a.parquet").num_rows == 16 * 200
