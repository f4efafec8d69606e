import os
from pathlib import Path

import pytest
from found_layout import tiles_in

from gcl_custom.errors import UserError
from gcl_custom.imagery import folders
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.folders import FoundTile, common_form, layout_of
from gcl_custom.imagery.mask_files import labels_of
from gcl_custom.imagery.source import Source
from gcl_custom.measures.label_kinds import MASKS, MULTI_LABEL, SINGLE_LABEL
from gcl_custom.recipe.imagery import Card, DataSettings

CARD = Card(name="c", title="t", source="s", licence="l", bands=["red", "green", "blue"])


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x") if not path.endswith("/") else (root / path).mkdir(exist_ok=True)
    return root


def test_flat_and_nested_folders_are_unlabelled(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path, "b.JPG", "deep/er/a.tif", "deep/c.webp", ".hidden.jpg", ".git/d.jpg", "notes.txt", "e.png.aux.xml"
    )
    layout = tiles_in(root)
    assert layout.tiles == [FoundTile(Source(path), None, None) for path in ("b.JPG", "deep/c.webp", "deep/er/a.tif")]
    assert (layout.classes, layout.splits) == ([], [])
    assert layout.notes == ["files that are no images by their names or kind, passed over: 2"]


def test_one_folder_is_not_a_class(tmp_path: Path) -> None:
    assert tiles_in(lay_out(tmp_path, "tiles/a.jpg", "tiles/b.jpg")).classes == []


def test_class_folders_with_an_empty_one_and_an_unlabelled_one(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "water/a.jpg", "forest/b.jpg", "forest/c.jpg", "burnt/", "unlabelled/d.jpg")
    layout = tiles_in(root)
    assert layout.classes == ["forest", "water"]
    assert [tile.label for tile in layout.tiles] == ["forest", "forest", None, "water"]
    assert "class folder burnt: empty, so it is no class" in layout.notes
    assert "images outside the class folders, used without a label: 1" in layout.notes


@pytest.mark.parametrize("stray", ["overview.jpg", "forest/deep/b.jpg", "forest/deep/er/b.jpg"])
def test_a_stray_picture_keeps_the_classes_and_is_named(tmp_path: Path, stray: str) -> None:
    root = lay_out(tmp_path, "water/a.jpg", "forest/b.jpg", "forest/c.jpg", stray)
    layout = tiles_in(root)
    assert layout.classes == ["forest", "water"]
    assert {tile.source.path: tile.label for tile in layout.tiles} == {
        "water/a.jpg": "water", "forest/b.jpg": "forest", "forest/c.jpg": "forest", stray: None,
    }  # fmt: skip
    assert f"1 image lies in no class folder: {stray}" in layout.notes


def test_many_stray_pictures_leave_no_classes_and_are_named(tmp_path: Path) -> None:
    layout = tiles_in(lay_out(tmp_path, "water/a.jpg", "forest/b.jpg", "forest/deep/b.jpg", "c.jpg"))
    assert layout.classes == []
    assert "2 of 4 images lie elsewhere, such as c.jpg, forest/deep/b.jpg" in layout.notes[0]


@pytest.mark.parametrize("thumbs", ["thumbs", "Thumbnails", "@eaDir/b.jpg", "thumbs/small"])
def test_thumbnails_are_passed_over_and_named(tmp_path: Path, thumbs: str) -> None:
    """Each is a tile once more, and would be found in another split than its picture."""
    tiles = [f"{name}/{number}.jpg" for name in ("forest", "water") for number in range(3)]
    small = [f"{name}/{thumbs}/{number}.jpg" for name in ("forest", "water") for number in range(3)]
    layout = tiles_in(lay_out(tmp_path, *tiles, *small))
    assert [(tile.source.path, tile.label) for tile in layout.tiles] == [(path, path.split("/")[0]) for path in tiles]
    assert f"images in folders of thumbnails, passed over: 6, such as {', '.join(small[:3])}, ..." in layout.notes


def test_a_class_of_that_name_is_none_of_thumbnails(tmp_path: Path) -> None:
    assert tiles_in(lay_out(tmp_path, "thumbs/a.jpg", "fists/b.jpg")).classes == ["fists", "thumbs"]


def test_a_card_and_a_table_know_no_thumbnails_either(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a/1.jpg", "b/2.jpg", "a/thumbs/1.jpg")
    (root / "labels.csv").write_text("file,labels\na/1.jpg,x\n")
    for card, labels in ((CARD, None), (None, "labels.csv")):
        assert [tile.source.path for tile in tiles_in(root, card, labels=labels).tiles] == ["a/1.jpg", "b/2.jpg"]


def test_classes_below_a_lone_folder_are_found_and_this_is_said(tmp_path: Path) -> None:
    layout = tiles_in(lay_out(tmp_path, "EuroSAT/train/a/1.jpg", "EuroSAT/train/b/2.jpg", "map.jpg"))
    assert {(tile.source.path, tile.split, tile.label) for tile in layout.tiles} == {
        ("EuroSAT/train/a/1.jpg", None, "a"), ("EuroSAT/train/b/2.jpg", None, "b"), ("map.jpg", None, None),
    }  # fmt: skip
    assert layout.notes == [
        "the folders below EuroSAT/train are read as classes",
        "1 image lies in no class folder: map.jpg",
        "images outside the class folders, used without a label: 1",
    ]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = lay_out(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg"), os.scandir

    def denied(path: str) -> object:
        if Path(path).name in shut:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    shut = {"c"}
    assert "folders that cannot be opened, left out: c" in tiles_in(root).notes
    shut = {"a", "b", "c"}
    with pytest.raises(UserError, match=r"holds no image .*cannot be opened, left out: a, b, c"):
        tiles_in(root)


@pytest.mark.parametrize("folders", [("images", "masks"), ("train/Images", "train/labels"), ("img/a", "mask/a")])
def test_masks_beside_images_are_labels_and_no_tiles(tmp_path: Path, folders: tuple[str, str]) -> None:
    images, masks = folders
    root = lay_out(tmp_path, *(f"{images}/{number}.tif" for number in range(3)), f"{masks}/0.png", f"{masks}/2.tif")
    lay_out(tmp_path, f"{masks}/9.png")
    layout = tiles_in(root)
    assert [(tile.source.path, tile.label) for tile in layout.tiles] == [
        (f"{images}/0.tif", f"{masks}/0.png"), (f"{images}/1.tif", None), (f"{images}/2.tif", f"{masks}/2.tif")
    ]  # fmt: skip
    assert layout.kind is MASKS
    assert layout.notes == [
        "images without a mask, used without a label: 1",
        f"masks without an image of their name, passed over: 1, such as {masks}/9.png",
    ]


def test_masks_of_other_names_than_the_images_are_refused(tmp_path: Path) -> None:
    root = lay_out(tmp_path, *(f"{name}/{name}{number}.png" for name in ("images", "masks") for number in range(3)))
    with pytest.raises(UserError, match=r"as in data sets of segmentation.*--set data\.root=.*images"):
        tiles_in(root)
    with pytest.raises(UserError, match=r"data\.masks: no image of .* has a mask"):
        tiles_in(root, masks="masks")


def test_a_named_folder_holds_the_masks_whatever_it_is_called(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/3.jpg", "water/train/a/1.png", "water/val/3.png")
    assert tiles_in(root).classes == ["a", "b"]
    layout = tiles_in(root, masks="water")
    assert (layout.classes, layout.splits) == ([], ["train", "valid"])
    assert [tile.label for tile in layout.tiles] == ["water/train/a/1.png", None, "water/val/3.png"]
    with pytest.raises(UserError, match=r"data\.masks: no folder 'fire'"):
        tiles_in(root, masks="fire")


def test_names_of_classes_of_masks_come_from_the_recipe_or_a_card(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "images/1.png", "masks/1.png")
    data = DataSettings(root=str(root), masks="masks")
    card = CARD.model_copy(update={"classes": ["land", "water"]})
    assert layout_of(data, None).classes == []
    assert layout_of(data, card).classes == ["land", "water"]
    assert layout_of(data.model_copy(update={"mask_classes": ["dry", "wet"]}), card).classes == ["dry", "wet"]
    named = DataSettings(root=str(lay_out(tmp_path / "other", "1.png", "2.png")), mask_classes=["dry", "wet"])
    with pytest.raises(UserError, match=r"data\.mask_classes: no masks are found"):
        layout_of(named, None)


@pytest.mark.parametrize("valid", ["valid", "val", "Validation"])
def test_given_splits_with_classes_inside(tmp_path: Path, valid: str) -> None:
    root = lay_out(
        tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{valid}/a/3.jpg", "test/b/4.jpg", "extra/5.jpg", "6.jpg"
    )
    layout = tiles_in(root)
    assert layout.splits == ["train", "valid", "test"]
    assert {(tile.split, tile.label) for tile in layout.tiles} == {
        ("train", "a"), ("train", "b"), ("valid", "a"), ("test", "b")
    }  # fmt: skip
    assert layout.notes == [f"images outside train, {valid}, test, left out: 2, such as 6.jpg, extra/5.jpg"]


def test_given_splits_without_classes_and_with_one_missing(tmp_path: Path) -> None:
    layout = tiles_in(lay_out(tmp_path, "train/1.jpg", "train/x/2.jpg", "test/3.jpg"))
    assert (layout.splits, layout.classes) == (["train", "test"], [])


def test_labels_of_the_train_split_alone(tmp_path: Path) -> None:
    layout = tiles_in(lay_out(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/3.jpg", "test/c/4.jpg"))
    assert layout.classes == ["a", "b"]
    assert [tile.label for tile in layout.tiles if tile.split == "test"] == [None, None]


def test_two_names_for_one_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="val, validation"):
        tiles_in(lay_out(tmp_path, "train/1.jpg", "val/2.jpg", "validation/3.jpg"))


def test_a_card_overrules_the_folders(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "b/1.jpg", "a/2.jpg", "a/deep/3.jpg", "other/4.jpg")
    layout = tiles_in(root, CARD.model_copy(update={"classes": ["b", "a", "gone"]}))
    assert layout.classes == ["b", "a"]
    assert [tile.label for tile in layout.tiles] == ["a", "a", "b", None]
    assert "class gone: no image in the train split, so it is left out" in layout.notes
    assert tiles_in(root, CARD).classes == []
    given = CARD.model_copy(update={"splits": {"test": "other", "train": "a"}, "classes": ["deep"]})
    assert [(tile.split, tile.label) for tile in tiles_in(root, given).tiles] == [
        ("train", None), ("train", "deep"), ("test", None)
    ]  # fmt: skip


def test_a_card_may_leave_the_classes_to_the_folders(tmp_path: Path) -> None:
    card = CARD.model_copy(update={"classes": "folders", "splits": {"train": "train", "test": "val"}})
    root = lay_out(tmp_path, "train/n2/1.JPEG", "train/n1/2.JPEG", "val/n1/3.JPEG", "val/n3/4.JPEG", "devkit/5.png")
    layout = tiles_in(root, card)
    assert layout.classes == ["n1", "n2"]
    assert [(tile.split, tile.label) for tile in layout.tiles] == [
        ("train", "n1"), ("train", "n2"), ("test", "n1"), ("test", None),
    ]  # fmt: skip
    lay_out(root, "train/loose.JPEG")
    with pytest.raises(UserError, match="card c says that folders are classes, so every image"):
        tiles_in(root, card)


def test_a_card_that_does_not_fit_says_so(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a/1.jpg", "b/2.jpg")
    with pytest.raises(UserError, match=r"the test split is .*which is no folder"):
        tiles_in(root, CARD.model_copy(update={"splits": {"train": "a", "test": "none"}}))
    with pytest.raises(UserError, match="must name the folder of train"):
        tiles_in(root, CARD.model_copy(update={"splits": {"test": "a"}}))
    with pytest.raises(UserError, match="none of the class folders that the card states: c, d"):
        tiles_in(root, CARD.model_copy(update={"classes": ["c", "d"]}))


def test_missing_and_empty_roots_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*--set data\.root="):
        tiles_in(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no image \(other files: 1\)"):
        tiles_in(lay_out(tmp_path, "readme.txt"))
    with pytest.raises(UserError, match="the folder of the train split, holds no image"):
        tiles_in(lay_out(tmp_path, "train/", "test/1.jpg"))


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "root", "a/1.jpg", "b/2.jpg")
    (root / "c").symlink_to(lay_out(tmp_path / "elsewhere", "3.jpg"))
    (root / "a" / "up").symlink_to(root)
    assert [tile.source.path for tile in tiles_in(root).tiles] == ["a/1.jpg", "b/2.jpg", "c/3.jpg"]


def test_a_table_gives_labels_and_splits_and_folders_mean_nothing(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "x/1.jpg", "x/2.jpg", "y/3.jpg", "4.jpg")
    (root / "labels.csv").write_text(
        "file,labels,split\nx/1.jpg,water;forest,train\nx/2.jpg,field,test\n4.jpg,forest,valid"
    )
    layout = tiles_in(root, labels="labels.csv")
    assert layout.tiles == [
        FoundTile(Source("4.jpg"), "valid", "forest"), FoundTile(Source("x/1.jpg"), "train", "forest;water"),
        FoundTile(Source("x/2.jpg"), "test", "field"), FoundTile(Source("y/3.jpg"), None, None),
    ]  # fmt: skip
    assert (layout.classes, layout.kind) == (["field", "forest", "water"], MULTI_LABEL)
    assert "images without a row in labels.csv, used without a label: 1" in layout.notes
    kept, labels = labels_of(layout.tiles, layout.classes, layout.kind)
    assert kept == ["forest", "water"]  # no field in the train split
    assert labels.int().tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("name", ["labels.csv", "about/../about/labels.csv", "absolute"])
def test_the_table_of_labels_is_no_file_that_is_passed_over(tmp_path: Path, name: str) -> None:
    """Wherever it lies below the root and however it is named; another file of its name is."""
    root = lay_out(tmp_path, "1.jpg", "about/", "other/labels.csv", "readme.txt")
    labels = str(tmp_path / "about" / "labels.csv") if name == "absolute" else name
    (root / labels).write_text("file,labels\n1.jpg,a")
    passed = "files that are no images by their names or kind, passed over: {}"
    assert tiles_in(root, labels=labels).notes == [passed.format(2)]
    assert tiles_in(root).notes == [passed.format(3)]
    (root / "readme.txt").unlink()
    (root / "other" / "labels.csv").unlink()
    assert tiles_in(root, labels=labels).notes == []


def test_a_row_of_a_table_takes_in_an_image_outside_the_folders_of_the_splits(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "train/1.jpg", "val/2.jpg", "further/3.jpg", "further/4.jpg", "further/5.jpg")
    (root / "labels.csv").write_text("file,labels,split\ntrain/1.jpg,a,test\nfurther/3.jpg,b,train\n")
    layout = tiles_in(root, labels="labels.csv")
    assert layout.tiles == [
        FoundTile(Source("further/3.jpg"), "train", "b"), FoundTile(Source("train/1.jpg"), "test", "a"),
        FoundTile(Source("val/2.jpg"), "valid", None),
    ]  # fmt: skip
    assert "images outside train, val, left out: 2, such as further/4.jpg, further/5.jpg" in layout.notes


def test_a_table_of_one_label_a_file_is_single_label_unless_said_otherwise(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "train/1.jpg", "test/2.jpg")
    (root / "labels.csv").write_text("file,labels\ntrain/1.jpg,a\ntest/2.jpg,a")
    layout = tiles_in(root, labels="labels.csv")
    assert [(tile.split, tile.label) for tile in layout.tiles] == [("test", "a"), ("train", "a")]  # split by folders
    assert layout.kind is SINGLE_LABEL
    assert tiles_in(root, labels="labels.csv", multi_label=True).kind is MULTI_LABEL


def test_few_headers_of_many_decide_from_the_first_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def header(root: Path, source: Source, *_: object) -> Form:
        read.append(source.path)
        return Form(3, "uint8")

    monkeypatch.setattr(folders, "header_of", header)
    monkeypatch.setattr(folders, "FORM_SAMPLE", 4)
    tiles = [FoundTile(Source(f"{number}.jpg"), None, None) for number in range(7)]
    assert common_form(tmp_path, tiles, None) == Form(3, "uint8")
    assert read == ["0.jpg", "2.jpg", "4.jpg", "6.jpg"]
