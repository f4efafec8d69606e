import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.label_table import LabelRow, read_labels, read_lists, table_below
from gcl_custom.imagery.tile_store import SPLITS, SplitName

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


def test_a_table_of_parquet_says_what_one_of_csv_does(tmp_path: Path) -> None:
    """Lists are several labels, and categories are their names."""
    path = tmp_path / "labels.parquet"
    labels = pa.array([["water", "forest"], ["water"]])
    columns = {"split": ["train", "test"], "file": ["a.jpg", "in, there/c.jpg"]}
    truth = {"a.jpg": LabelRow("train", "forest;water"), "in, there/c.jpg": LabelRow("test", "water")}
    pq.write_table(pa.table(columns | {"labels": labels}), path)
    assert read_labels(path, IMAGES) == truth
    assert read_labels(path, IMAGES, path.read_bytes()) == truth
    pq.write_table(pa.table({"path": ["b.jpg"], "label": pa.array(["x"]).dictionary_encode()}), path)
    assert read_labels(path, IMAGES) == {"b.jpg": LabelRow(None, "x")}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.jpg"], "colour": ["x"]}, "columns: unknown column 'colour', no column 'labels'"),
        ({"file": ["a.jpg", "z.jpg"], "label": ["x", "x"]}, "row 2: there is no image 'z.jpg' in the data root"),
        ({"file": ["a.jpg"], "label": [None]}, "row 1: an empty label in ''"),
    ],
)
def test_mistakes_in_a_table_of_parquet_are_named(
    columns: dict[str, list[str | None]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    with pytest.raises(UserError, match=message):
        read_labels(tmp_path / "labels.parquet", IMAGES)


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(b"file,labels\n")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_labels(tmp_path / "labels.parquet", IMAGES)


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
        ("file,labels,split\na.jpg,x,dev\n", "row 2: split 'dev' is none of train, valid, test"),
        ("file,labels,split\na.jpg,x,\n", "row 2: split '' is none of train, valid, test"),
        ("filename,label,path\n", "row 1: column 'file' twice"),
        ("file;labels\na.jpg;x\n", "row 1: unknown column 'file;labels', .*separated by commas"),
        (
            "file,labels\nthere/c.jpg,x\n",
            r"row 2: there is no image 'there/c.jpg' in the data root; did you mean 'in, ",
        ),
        ("file,labels\na.jpg\n", "row 2: 1 cell under 2 columns"),
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


@pytest.mark.parametrize("file", ["file", "filename", "path", "Filename", " Path "])
@pytest.mark.parametrize("label", ["labels", "label", "Label"])
def test_columns_have_several_names_and_any_order(tmp_path: Path, file: str, label: str) -> None:
    path = table(tmp_path, f"{label},split,{file}\nwater,train,a.jpg\n")
    assert read_labels(path, IMAGES) == {"a.jpg": LabelRow("train", "water")}


@pytest.mark.parametrize(
    ("given", "split"),
    [("train", "train"), ("Training", "train"), ("val", "valid"), ("VALIDATION", "valid"), ("valid", "valid"),
     ("testing", "test"), (" test ", "test")],
)  # fmt: skip
def test_splits_have_several_names(tmp_path: Path, given: str, split: str) -> None:
    path = table(tmp_path, f"file,labels,split\na.jpg,x,{given}\n")
    assert read_labels(path, IMAGES) == {"a.jpg": LabelRow(split, "x")}


ODD = [" blank .jpg", "a\nb.jpg", "caf\u00e9/d.jpg", "cafe\u0301/e.jpg", 'q"uote.jpg']


@pytest.mark.parametrize(
    ("given", "file"),
    [("./a.jpg", "a.jpg"), ("x/../a.jpg", "a.jpg"), ("north\\f.jpg", "north/f.jpg"), ("north//f.jpg", "north/f.jpg"),
     ('" blank .jpg"', " blank .jpg"), ('"a\nb.jpg"', "a\nb.jpg"), ("cafe\u0301/d.jpg", "caf\u00e9/d.jpg"),
     ("caf\u00e9/e.jpg", "cafe\u0301/e.jpg"), ('"q""uote.jpg"', 'q"uote.jpg')],
)  # fmt: skip
def test_a_file_is_found_by_any_path_below_the_root(tmp_path: Path, given: str, file: str) -> None:
    images = [*IMAGES, "north/f.jpg", *ODD]
    assert read_labels(table(tmp_path, f"file,labels\n{given},x\n"), images) == {file: LabelRow(None, "x")}


@pytest.mark.parametrize(
    "rows",
    ['a.jpg,"water\nb.jpg,forest', 'a.jpg,wa"ter\nb.jpg,forest', 'a.jpg,water"\nb.jpg,forest',
     'a.jpg,"water\n"in, there/c.jpg",forest', '"a.jpg,water\n"in, there/c.jpg",forest', 'a.jpg,"wa"ter'],
)  # fmt: skip
def test_a_stray_quote_is_named_with_its_row(tmp_path: Path, rows: str) -> None:
    """It would swallow the rows up to the next quote, or make a class of its own."""
    with pytest.raises(UserError, match="row 2: a stray quote"):
        read_labels(table(tmp_path, f"file,labels\n{rows}\n"), IMAGES)


def test_two_stray_quotes_make_no_class_of_several_lines(tmp_path: Path) -> None:
    text = 'file,labels\na.jpg,x\nb.jpg,"forest\nin,water"\n'
    with pytest.raises(UserError, match="row 3: a label of several lines"):
        read_labels(table(tmp_path, text), IMAGES)


def test_quotes_where_they_belong(tmp_path: Path) -> None:
    text = 'file,labels\r\n"a.jpg", "5"" pipe"\r\n\r\nb.jpg,"x;y"\r\n'
    assert read_labels(table(tmp_path, text), IMAGES) == {
        "a.jpg": LabelRow(None, '5" pipe'),
        "b.jpg": LabelRow(None, "x;y"),
    }


def test_a_cell_without_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2: no CSV .*field larger than"):
        read_labels(table(tmp_path, f"file,labels\na.jpg,{'x' * 200_000}\n"), IMAGES)


def test_a_table_is_looked_for_below_the_root_alone(tmp_path: Path) -> None:
    """Whatever a recipe of somebody else says, no other file is opened, and none of its text shown."""
    root = tmp_path / "root"
    (root / "meta").mkdir(parents=True)
    table(root / "meta", "file,labels\n")
    table(tmp_path, "secret\n")
    (root / "link.csv").symlink_to(tmp_path / "labels.csv")
    (root / "linked").symlink_to(tmp_path)
    (root / "inner.csv").symlink_to(root / "meta" / "labels.csv")
    for inside in ("meta/labels.csv", "./meta/../meta/labels.csv", str(root / "meta" / "labels.csv"), "inner.csv"):
        assert table_below(root, inside) == (root / "meta" / "labels.csv").resolve()
    for outside in ("../labels.csv", str(tmp_path / "labels.csv"), "link.csv", "linked/labels.csv", "/etc/passwd"):
        with pytest.raises(UserError, match=r"lies outside of data\.root") as refusal:
            table_below(root, outside)
        assert "secret" not in str(refusal.value)
        assert "x:0:" not in str(refusal.value)


def test_what_is_no_table_ends_in_one_message(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "self.csv").symlink_to("self.csv")
    for given, message in [
        ("nowhere.csv", r"there is no file .*nowhere\.csv"), ("pipe.csv", "is no regular file"),
        (".", "is no regular file"), ("self.csv", "leads to no file"), ("a\0b", "leads to no file"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            table_below(tmp_path, given)


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"file,labels\n\xff\xfe")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_labels(tmp_path / "b.csv", IMAGES)


FILES = ["Forest/Forest_1.jpg", "Forest/Forest_2.jpg", "River/River_1.jpg", "River/a b.jpg", "x/same.png", "y/same.png"]


def lists(folder: Path, **texts: str) -> dict[SplitName, str]:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: f"{name}.txt" for name in SPLITS if name in texts}


def test_lists_name_files_in_the_ways_of_public_data_sets(tmp_path: Path) -> None:
    given = lists(
        tmp_path,
        train="Forest/Forest_1.jpg\n# a remark\n\n./River/a b.jpg\n",
        valid="/data/EuroSAT/River/River_1.jpg 8\n",
        test="Forest_2\nx\\same.png,3\ny/same\n",
    )
    assert read_lists(tmp_path, given, FILES) == (
        {
            "Forest/Forest_1.jpg": "train",
            "River/a b.jpg": "train",
            "River/River_1.jpg": "valid",
            "Forest/Forest_2.jpg": "test",
            "x/same.png": "test",
            "y/same.png": "test",
        },
        [],
    )


def test_lines_without_an_image_are_counted_and_names_of_several_name_none(tmp_path: Path) -> None:
    found, notes = read_lists(tmp_path, lists(tmp_path, test="Forest_1.jpg\nsame.png\ngone.jpg\n"), FILES)
    assert found == {file: "test" if file == "Forest/Forest_1.jpg" else "train" for file in FILES}
    assert notes == ["lines of test.txt that name no image here: 2 of 3, such as same.png"]


def test_a_list_beside_its_files_names_them_from_there(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "test.txt").write_text("same.png\n")
    assert read_lists(tmp_path, {"test": "x/test.txt"}, FILES)[0]["x/same.png"] == "test"


def test_files_that_no_list_names_are_left_out_where_a_list_says_what_to_train_on(tmp_path: Path) -> None:
    found, notes = read_lists(tmp_path, lists(tmp_path, train="Forest_1\n", test="Forest_2\n"), FILES)
    assert found == {"Forest/Forest_1.jpg": "train", "Forest/Forest_2.jpg": "test"}
    left = ", ".join(FILES[2:5])
    assert notes == [f"images that no list of data.split.lists names, left out: 4, such as {left}"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"test": "../../etc/passwd\n"},
            r"lists.test: no line of .* names an image below .*; the first one is",
        ),
        ({"test": "\n"}, r"no line of .* names an image"),
        (
            {"train": "Forest_1\nForest_2\n", "test": "River_1\nForest_2\n"},
            "names Forest/Forest_2.jpg in line 2, and so does the list of the train split",
        ),
    ],
)
def test_lists_that_cannot_be_right_are_refused(texts: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_lists(tmp_path, lists(tmp_path, **texts), FILES)


def test_a_list_outside_the_root_is_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "test.txt").write_text("Forest_1.jpg\n")
    with pytest.raises(UserError, match=r"data.split.lists.test: .* lies outside of data.root"):
        read_lists(root, {"test": "../test.txt"}, FILES)
    with pytest.raises(UserError, match="there is no file"):
        read_lists(root, {"test": "test.txt"}, FILES)
