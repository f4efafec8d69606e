import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from found_layout import tiles_in

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection import Collection, Unreadable
from gcl_custom.imagery.collections.open_collections import collection_at
from gcl_custom.imagery.collections.stacks import array_from, is_stack, key, role

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)


def opened(path: Path) -> Collection:
    found = collection_at(path)
    assert found is not None
    return found


def tile(found: Collection, path: str) -> np.ndarray:
    return array_from(found.read(path), ("uint8", "uint16", "float32"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        (PIXELS, PIXELS.transpose(0, 3, 1, 2)),
        (PIXELS.transpose(0, 3, 1, 2).copy(), PIXELS.transpose(0, 3, 1, 2)),
        (PIXELS[..., 0].copy(), PIXELS[:, None, :, :, 0]),
        (PIXELS.astype(">u2") * 9, PIXELS.transpose(0, 3, 1, 2).astype(np.uint16) * 9),
    ],
)
def test_a_tile_is_that_of_the_stack_with_its_bands_first(
    save: Callable[..., Any], stack: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "a.npz", train_images=stack, test_images=stack[:2])
    found = opened(tmp_path / "a.npz")
    assert len(found.images) == 14
    for number in (11, 0, 5):
        assert np.array_equal(tile(found, f"train_images/{number:07d}"), expected[number])
    assert np.array_equal(tile(found, "test_images/0000001"), expected[1])


def test_a_stack_may_be_a_file_of_its_own_with_its_labels_beside(tmp_path: Path) -> None:
    np.save(tmp_path / "train_images.npy", PIXELS)
    np.save(tmp_path / "train_labels.npy", np.arange(12)[:, None] % 2)
    np.save(tmp_path / "x_test.npy", PIXELS[:3])
    np.save(tmp_path / "y_test.npy", np.array(["sea", "land", "sea"]))
    found = opened(tmp_path)
    told = found.labelled(None)
    assert told is not None
    assert told.told["train_images.npy/0000011"].label == "1"
    assert told.told["x_test.npy/0000001"].label == "land"
    assert told.told["x_test.npy/0000001"].words == ("test",)
    assert np.array_equal(tile(found, "x_test.npy/0000002"), PIXELS[2].transpose(2, 0, 1))
    assert found.file_of("x_test.npy/0000002") == tmp_path / "x_test.npy"
    assert opened(tmp_path / "train_images.npy").images[-1] == "0000011"


def saved(arrays: dict[str, np.ndarray], root: Path, together: bool) -> Path:
    """Arrays in one .npz, or each in a file of its own."""
    if together:
        np.savez(root / "a.npz", **arrays)
        return root / "a.npz"
    for name, array in arrays.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", array)
    return root


@pytest.mark.parametrize("together", [True, False])
def test_folders_of_stacks_keep_their_labels_apart_and_say_the_split(together: bool, tmp_path: Path) -> None:
    names = np.array(["sea", "land", "ice"])
    arrays = {
        "train/images": PIXELS[:3], "train/labels": names, "test/images": PIXELS[3:6], "test/labels": names[::-1],
    }  # fmt: skip
    found = tiles_in(saved(arrays, tmp_path, together))
    assert [(tile.split, tile.label) for tile in found.tiles] == [
        *(("test", name) for name in names[::-1]),
        *(("train", name) for name in names),
    ]


@pytest.mark.parametrize("together", [True, False])
def test_folders_of_other_names_keep_their_labels_apart(together: bool, tmp_path: Path) -> None:
    arrays = {"2021/x": PIXELS[:2], "2021/y": np.array([4, 5]), "2022/x": PIXELS[:2], "2022/y": np.array([6, 7])}
    told = opened(saved(arrays, tmp_path, together)).labelled(None)
    assert told is not None
    assert [each.label for each in told.told.values()] == ["4", "5", "6", "7"]


def test_two_labels_of_the_same_tiles_are_refused_and_labels_of_none_are_told(tmp_path: Path) -> None:
    arrays = {"train_images": PIXELS, "train_labels": np.zeros(12, int), "train/targets": np.ones(12, int)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"train_labels and .*train/targets are both labels of the same tiles"):
        opened(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=PIXELS, fine_labels=np.zeros(12, int))
    assert opened(tmp_path / "b.npz").notes == [
        f"labels of no stack by their names, not used: {tmp_path / 'b.npz'}: fine_labels"
    ]


@pytest.mark.parametrize(
    ("labels", "expected", "several"),
    [
        (np.array([[2], [0]], np.uint8), ["2", "0"], False),
        (np.array([2, -1]), ["2", None], False),
        (np.array([b"sea", b"land"]), ["sea", "land"], False),
        (np.array([[1, 0, 1], [0, 0, 0]]), ["0;2", None], True),
        (np.array([[1, 0, 0], [0, 0, 1]]), ["0", "2"], False),
        (np.array([0.5, 1.5]), [None, None], False),
        (np.zeros((2, 8, 9), np.uint8), [None, None], False),
    ],
)
def test_labels_are_numbers_names_or_marks(
    labels: np.ndarray, expected: list[str | None], several: bool, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[:2], labels=labels)
    told = opened(tmp_path / "a.npz").labelled(None)
    assert told is not None
    assert ([each.label for each in told.told.values()], told.several) == (expected, several)
    assert bool(told.notes) == (labels.dtype.kind == "f" or labels.ndim == 3)


@pytest.mark.parametrize("names", [["land", "sea"], [b"land", b"sea"]])
def test_classes_may_have_names(names: list[str] | list[bytes], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[:2], labels=[1, 0], class_names=names)
    told = opened(tmp_path / "a.npz").labelled(None)
    assert told is not None
    assert [each.label for each in told.told.values()] == ["sea", "land"]


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"images": PIXELS.transpose(0, 3, 1, 2)[:, :, :3, :3]}, "volumes and rows of numbers are no tiles"),
        ({"images": np.zeros((4, 100))}, "volumes and rows of numbers are no tiles"),
        ({"weights": np.zeros(4)}, "holds no stack of tiles"),
        ({"images": PIXELS, "labels": np.zeros(3, int)}, r"labels has the shape \(3,\); the number of tiles is 12"),
        ({"images": np.asfortranarray(PIXELS)}, "in Fortran's order"),
        ({"images": PIXELS, "more": np.array([{}], object)}, "Python objects"),
    ],
)
def test_what_is_no_stack_is_refused(arrays: dict[str, np.ndarray], fault: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(UserError, match=fault):
        opened(tmp_path / "a.npz").labelled(None)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "was here"))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    np.save(tmp_path / "a.npy", np.array([Evil(trap)] * 4, object).reshape(1, 2, 2), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil(trap)))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(UserError):
            opened(tmp_path / name)
        with pytest.raises(ValueError, match=r"."):
            array_from((tmp_path / name).read_bytes(), ("uint8",))
    assert not trap.exists()


def test_a_stack_that_ends_too_early_has_unusable_tiles(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    path = tmp_path / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])
    found = opened(path)
    assert np.array_equal(tile(found, "0000000"), PIXELS[0].transpose(2, 0, 1))
    with pytest.raises(Unreadable, match="truncated or damaged"):
        found.read("0000011")


def test_a_tile_has_three_axes_and_a_type_that_is_stored() -> None:
    for wrong in (np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.int64)):
        written = io.BytesIO()
        np.save(written, wrong)
        with pytest.raises(TypeError, match="only uint8, uint16, float32 are read"):
            array_from(written.getvalue(), ("uint8", "uint16", "float32"))


def test_names_of_arrays_say_what_they_hold() -> None:
    assert role("train_images") == ("images", "train")
    assert role("y_test") == ("labels", "test")
    assert role("weights") == ("", "weights")
    assert [name for name in ("train_images.npy", "x.npy", "img_001.npy", "a.npy") if is_stack(name)] == [
        "train_images.npy", "x.npy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ("", "")),
        ("train_images", ("", "train")),
        ("train/images", ("", "train")),
        ("labels/train_labels", ("", "train")),
        ("Train/2021/images", ("2021", "Train")),
        ("train2017/images", ("", "train2017")),
        ("2021/images", ("2021", "")),
        ("train/val_images", ("", "val_train")),
        ("train/train_labels", ("", "train")),
    ],
)
def test_a_stack_and_its_labels_have_the_folder_and_the_rest_of_the_name_in_common(
    name: str, expected: tuple[str, str]
) -> None:
    assert key(name, role(name.rpartition("/")[2])[1]) == expected
