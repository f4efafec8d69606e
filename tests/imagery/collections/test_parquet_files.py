from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from collected_images import parquet, png

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import Unreadable
from gcl_custom.imagery.collections.parquet_files import ParquetFiles

NAMES = {"names": ["land", "water"], "_type": "ClassLabel"}


def test_rows_are_read_in_any_order_and_from_any_thread(tmp_path: Path) -> None:
    pictures = [png(number % 256, 4 + number % 5) for number in range(300)]
    found = ParquetFiles({"": parquet(tmp_path / "a.parquet", pictures, [0] * 300, NAMES, rows=37)})
    assert found.images[:2] == ["0000000", "0000001"]
    order = [(7 * number) % 300 for number in range(300)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: found.read(found.images[number]), order)) == [pictures[n] for n in order]


def test_labels_have_the_names_of_the_metadata_and_files_are_splits(tmp_path: Path) -> None:
    files = {
        name: parquet(tmp_path / name, [png(1)] * 2, labels, NAMES)
        for name, labels in (("data/train-00000-of-00001.parquet", [1, -1]), ("data/test.parquet", [0, 1]))
    }
    found = ParquetFiles(files)
    told = found.labelled(None)
    assert told.classes == ["land", "water"]
    assert not told.notes
    assert {path: each.label for path, each in told.told.items()} == {
        "data/test.parquet/0000000": "land", "data/test.parquet/0000001": "water",
        "data/train-00000-of-00001.parquet/0000000": "water", "data/train-00000-of-00001.parquet/0000001": None,
    }  # fmt: skip
    assert told.told["data/test.parquet/0000000"].words[0] == "test"
    assert "train" in told.told["data/train-00000-of-00001.parquet/0000000"].words
    assert found.file_of("data/test.parquet/0000001") == files["data/test.parquet"]


@pytest.mark.parametrize(
    ("labels", "feature", "expected", "several"),
    [
        (["b", None, "a"], None, ["b", None, "a"], False),
        ([[0, 1], [], [1]], {"feature": NAMES, "_type": "Sequence"}, ["land;water", None, "water"], True),
        ([[0], [1], [1]], [NAMES], ["land", "water", "water"], False),
        ([10, 9, 10], None, ["10", "9", "10"], False),
        (pa.array(["b", None, "a"]).dictionary_encode(), None, ["b", None, "a"], False),
        (pa.array(["b", None, "a"], pa.string_view()), None, ["b", None, "a"], False),
    ],
)
def test_a_label_may_be_a_text_a_number_or_a_list(
    labels: list[object], feature: object, expected: list[str | None], several: bool, tmp_path: Path
) -> None:
    told = ParquetFiles({"": parquet(tmp_path / "a.parquet", [png(1)] * 3, labels, feature)}).labelled(None)
    assert ([each.label for each in told.told.values()], told.several) == (expected, several)


def test_a_column_of_labels_can_be_named_and_must_be_one(tmp_path: Path) -> None:
    table = pa.table({"img": [png(1), png(2)], "coarse": [0, 1], "fine_label": ["x", "y"], "mass": [0.5, 1.5]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = ParquetFiles({"": tmp_path / "a.parquet"})
    assert found.read("0000001") == png(2)
    assert found.labelled(None).classes == ["x", "y"]
    assert found.labelled("coarse").classes == ["0", "1"]
    with pytest.raises(UserError, match="has no column 'kind'; it has img, coarse, fine_label, mass"):
        found.labelled("kind")
    with pytest.raises(UserError, match=r"column mass .* is double, which is no label"):
        found.labelled("mass")


def test_a_row_that_only_names_a_file_does_not_open_it(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(1))
    found = ParquetFiles({"": parquet(tmp_path / "a.parquet", [None, png(2)], [0, 0])})
    with pytest.raises(Unreadable, match=r"no image in its row \(only the name '0.png', which is not opened"):
        found.read("0000000")
    assert found.read("0000001") == png(2)


def test_files_without_images_or_that_are_none_are_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"text": ["a"], "number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column of images among text, number"):
        ParquetFiles({"": tmp_path / "a.parquet"})
    (tmp_path / "b.parquet").write_text("text")
    with pytest.raises(UserError, match=r"b\.parquet is no Parquet file, or a damaged one"):
        ParquetFiles({"": tmp_path / "b.parquet"})


def test_damaged_rows_are_unusable_and_others_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [png(number, 30) for number in range(40)], [0] * 40, rows=20)
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)
    found = ParquetFiles({"": path})
    with pytest.raises(Unreadable, match="truncated or damaged"):
        found.read("0000003")
    assert found.read("0000025") == png(25, 30)
