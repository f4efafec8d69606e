from pathlib import Path

import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.label_table import LabelRow, read_labels

IMAGES = ["a.jpg", "b.jpg", "in, there/c.jpg"]


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8-sig")  # with the mark that spreadsheets put in front
    return path


def test_rows_by_file_with_their_labels_in_order(tmp_path: Path) -> None:
    path = table(tmp_path, 'split,file,labels\ntrain,a.jpg,water; forest\n\ntest,"in, there/c.jpg",water\n')
    assert read_labels(path, IMAGES) == {
        "a.jpg": LabelRow("train", "forest;water"),
        "in, there/c.jpg": LabelRow("test", "water"),
    }


def test_without_a_split_column_no_split_is_given(tmp_path: Path) -> None:
    assert read_labels(table(tmp_path, "file,labels\n./b.jpg,x\n"), IMAGES) == {"b.jpg": LabelRow(None, "x")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,labels,colour\na.jpg,x,red\n", "row 1: unknown column 'colour'"),
        ("file,split\na.jpg,train\n", "row 1: no column 'labels'"),
        ("file,labels,file\n", "row 1: column 'file' twice"),
        ("", "row 1: no column 'file', no column 'labels'"),
        ("file,labels\na.jpg,x\nz.jpg,x\n", "row 3: there is no image 'z.jpg' in the data root"),
        ("file,labels\na.jpg,\n", "row 2: an empty label in ''"),
        ("file,labels\na.jpg,x;;y\n", "row 2: an empty label in 'x;;y'"),
        ("file,labels\na.jpg,x\nb.jpg,x\n./a.jpg,y\n", "row 4: a.jpg stands in row 2 already"),
        ("file,labels,split\na.jpg,x,validation\n", "row 2: split 'validation' is none of train, valid, test"),
        ("file,labels\na.jpg\n", "row 2: 1 cells under 2 columns"),
        ("file,labels\n", "has no row with labels"),
    ],
)
def test_each_mistake_is_named_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(table(tmp_path, text), IMAGES)


def test_all_mistakes_are_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(table(tmp_path, "file,labels\n" + "z.jpg,\n" * 4), IMAGES)
    assert str(caught.value).count("\n  row ") == 5
    assert str(caught.value).endswith("and 6 more")


def test_a_table_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*nowhere\.csv"):
        read_labels(tmp_path / "nowhere.csv", IMAGES)
    (tmp_path / "b.csv").write_bytes(b"file,labels\n\xff\xfe")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_labels(tmp_path / "b.csv", IMAGES)
