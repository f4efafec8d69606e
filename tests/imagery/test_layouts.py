import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.layouts import Placed, pair_masks, reading, split_named


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "TRAIN", "train2017", "train_2014", "train-images", "train set"]),
        ("valid", ["val", "valid", "validation", "Validation", "val2017", "val_images"]),
        ("test", ["test", "testing", "test1", "test-jpg", "test_data"]),
        (None, ["", "images", "trains", "train_station", "train_masks", "latest", "tests", "2017", "forest", "dev"]),
    ],
)  # fmt: skip
def test_the_split_that_a_name_says(split: str | None, names: list[str]) -> None:
    assert {name: split_named(name) for name in names} == dict.fromkeys(names, split)


def told(*paths: str) -> dict[str, tuple[str | None, str | None]]:
    """Path -> split and class."""
    found = reading(sorted(paths))
    return {
        image.path: (image.split, image.folder if image.direct and image.folder in found.classes else None)
        for image in found.images
    }


@pytest.mark.parametrize(
    "layout",
    [
        {"a.jpg": (None, None), "x/b.jpg": (None, None), "x/y/c.jpg": (None, None), "z/y/d.jpg": (None, None)},
        {"forest/a.jpg": (None, "forest"), "water/b.jpg": (None, "water")},
        {"forest/a.jpg": (None, "forest"), "water/b.jpg": (None, "water"), "unlabelled/x/c.jpg": (None, None)},
        {"train/forest/a.jpg": (None, "forest"), "train/water/b.jpg": (None, "water")},
        {"2750/forest/a.jpg": (None, "forest"), "2750/water/b.jpg": (None, "water"), "map.jpg": (None, None)},
        {"train/a.jpg": ("train", None), "val/b.jpg": ("valid", None)},
        {"train2017/a.jpg": ("train", None), "val2017/b.jpg": ("valid", None), "test2017/c.jpg": ("test", None)},
        {"images/train/a.jpg": ("train", None), "images/val/b.jpg": ("valid", None)},
        {
            "training/forest/a.jpg": ("train", "forest"), "training/water/b.jpg": ("train", "water"),
            "validation/forest/c.jpg": ("valid", "forest"), "testing/water/d.jpg": ("test", "water"),
        },
        {
            "forest/train/a.jpg": ("train", "forest"), "forest/test/b.jpg": ("test", "forest"),
            "water/train/c.jpg": ("train", "water"), "water/val/d.jpg": ("valid", "water"),
        },
        {
            "EuroSAT/forest/Train/a.jpg": ("train", "forest"), "EuroSAT/water/Train/c.jpg": ("train", "water"),
            "EuroSAT/water/Test/d.jpg": ("test", "water"),
        },
        {"train/a.jpg": (None, "train"), "car/b.jpg": (None, "car"), "plane/c.jpg": (None, "plane")},
        {"train_station/a.jpg": (None, "train_station"), "test_site/b.jpg": (None, "test_site")},
    ],
)  # fmt: skip
def test_each_layout_says_split_and_class(layout: dict[str, tuple[str | None, str | None]]) -> None:
    assert told(*layout) == layout


def test_images_outside_the_splits_have_no_place() -> None:
    splits = ("forest/train/a.jpg", "water/train/b.jpg", "water/test/c.jpg", "forest/test/d.jpg")
    assert list(told(*splits, "map.jpg")) == sorted(splits)
    assert list(told("train/a.jpg", "val/b.jpg", "unlabeled2017/c.jpg")) == ["train/a.jpg", "val/b.jpg"]


def test_a_small_class_beside_a_large_one_is_no_stray() -> None:
    found = told(*(f"forest/{number}.jpg" for number in range(100)), "water/a.jpg")
    assert found["water/a.jpg"] == (None, "water")


def test_more_than_a_twentieth_elsewhere_leaves_no_classes() -> None:
    tiles = [f"{name}/{number}.jpg" for name in ("forest", "water") for number in range(20)]
    two, three = (f"{number}.jpg" for number in range(2)), (f"{number}.jpg" for number in range(3))
    assert reading([*tiles, *two]).classes == ["forest", "water"]
    assert reading([*tiles, *three]).classes == []


def test_images_in_the_order_of_their_paths() -> None:
    paths = ["test/a.jpg", "train/b.jpg", "valid/c/d.jpg"]
    assert reading(paths).images == [
        Placed("test/a.jpg", "test", None, False),
        Placed("train/b.jpg", "train", None, False),
        Placed("valid/c/d.jpg", "valid", "c", True),
    ]


def test_two_folders_for_one_split_are_refused() -> None:
    with pytest.raises(UserError, match=r"several folders for the train split: x/train2014, x/train2017\. Keep one"):
        reading(["x/train2014/a.jpg", "x/train2017/b.jpg", "x/val2017/c.jpg"])


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/1.tif", "masks/1.png"),
        ("images/a/1.tif", "labels/a/1.png"),
        ("images/train/1.tif", "annotations/train/1.png"),
        ("train/IMG/a/b/1.tif", "train/gt/a/b/1.png"),
        ("images/1.tif", "masks/1_mask.png"),
        ("images/1_image.tif", "masks/1-label.png"),
    ],
)
def test_a_mask_has_the_name_and_place_of_its_image(image: str, mask: str) -> None:
    other = image.replace("1", "2")
    pairs = pair_masks(sorted([image, other, mask]), None)
    assert pairs is not None
    assert (pairs.images, pairs.masks) == (sorted([image, other]), {image: mask})
    assert pair_masks([image, other], None) is None


def test_masks_of_one_name_in_two_places_belong_to_the_images_of_these_places() -> None:
    folders = [f"{split}/{kind}" for split in ("train", "val") for kind in ("images", "masks")]
    paths = [f"{folder}/{number}.png" for folder in folders for number in "12"]
    pairs = pair_masks(paths, None)
    assert pairs is not None
    assert pairs.masks == {path: path.replace("images", "masks") for path in paths if "images" in path}


def test_a_folder_of_labels_without_one_of_images_beside_it_is_no_folder_of_masks() -> None:
    assert pair_masks(["forest/1.png", "labels/1.png"], None) is None
    pairs = pair_masks(["forest/1.png", "labels/1.png"], "labels")
    assert pairs is not None
    assert pairs.masks == {"forest/1.png": "labels/1.png"}
    deep = pair_masks(["1.png", "x/2.png", "deep/water/1.png", "deep/water/x/2.png"], "deep/water")
    assert deep is not None
    assert deep.masks == {"1.png": "deep/water/1.png", "x/2.png": "deep/water/x/2.png"}
    flat = pair_masks(["1.png", "x/2.png", "water/1.png", "water/x/2.png"], "water")
    assert flat is not None
    assert flat.masks == {"1.png": "water/1.png", "x/2.png": "water/x/2.png"}


def test_two_masks_of_one_image_are_refused() -> None:
    with pytest.raises(UserError, match=r"masks/1\.png and masks/1\.tif are masks of one image"):
        pair_masks(["images/1.tif", "masks/1.png", "masks/1.tif"], None)
