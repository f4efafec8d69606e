"""Arrays on the disk: room for all of them, and messages."""

import re
from pathlib import Path

import numpy as np
import pytest
from full_disks import limited

from gcl_custom.arrays import BlockedArray, Texts, new_array, read_array, require_shape, save_array
from gcl_custom.errors import UserError
from gcl_custom.machine_faults import explained


def test_a_new_array_is_of_zeros_has_its_room_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    made = new_array(path, np.uint16, (3, 5000))
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert not made.any()
    made[1] = 7
    made.flush()
    for mode in ("r", None):
        assert np.array_equal(read_array(path, "", mode=mode), made)


def test_an_array_that_finds_no_room_says_what_it_needs_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with limited(1000):
        for write in (lambda: save_array(path, np.zeros(1000)), lambda: new_array(path, np.float64, (1000,))):
            with pytest.raises(OSError, match=re.escape(str(path))) as caught:
                write()
            assert "it needs 8 kB" in (explained(caught.value) or "")
            assert not list(tmp_path.iterdir())
    save_array(path, np.arange(1000))
    assert np.array_equal(read_array(path, ""), np.arange(1000))


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"random bytes", "cut", "objects"])
def test_what_is_no_array_is_damaged(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "a.npy"
    if content == "cut":
        np.save(path, np.arange(1000))
        path.write_bytes(path.read_bytes()[:500])
    elif content == "objects":
        np.save(path, np.array([{}], dtype=object))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    for mode in ("r", None):
        with pytest.raises(UserError, match=f"^{path} is damaged or was changed"):
            read_array(path, "", mode=mode)


def test_the_first_dimensions_are_compared(tmp_path: Path) -> None:
    require_shape(tmp_path / "a.npy", np.zeros((3, 4)), (3,), "")
    with pytest.raises(UserError, match=r"it holds \(3, 4\), not \(4,\)"):
        require_shape(tmp_path / "a.npy", np.zeros((3, 4)), (4,), "")


def test_texts_are_those_they_were_made_of_whatever_their_bytes() -> None:
    texts = ["a/b.png", "", "é\u2028", "\udce9.png", "", "x" * 1000]
    made = Texts.of(texts)
    again = Texts(made.content, made.ends)
    assert list(again) == texts
    assert (again[-1], again[-2], again[1:4], len(again)) == (texts[-1], "", texts[1:4], 6)
    assert "\udce9.png" in again
    assert again.index("x" * 1000) == 5
    assert list(Texts.of([])) == []
    with pytest.raises(IndexError):
        again[6]
    with pytest.raises(ValueError, match="bytes of text"):
        Texts(made.content[1:], made.ends)


def test_blocks_are_written_in_any_order_and_those_that_are_there_stay(tmp_path: Path) -> None:
    path, marks = tmp_path / "a.npy", tmp_path / "blocks.npy"
    BlockedArray.begin(path, marks, np.uint16, (8, 2), 3)
    blocks = BlockedArray(path, marks, 3, "")
    assert (blocks.pending, blocks.written) == ([0, 1, 2], 0)
    blocks.keep(2, np.full((2, 2), 7))  # the last one is shorter
    blocks.keep(0, np.full((3, 2), 5))
    BlockedArray.begin(path, marks, np.uint16, (8, 2), 3)
    again = BlockedArray(path, marks, 3, "")
    assert (again.pending, again.written) == ([1], 5)
    assert again.within(1) == slice(3, 6)
    again.keep(1, np.full((3, 2), 6))
    assert (again.pending, again.written) == ([], 8)
    assert np.load(path)[:, 0].tolist() == [5, 5, 5, 6, 6, 6, 7, 7]
    with pytest.raises(UserError, match=r"blocks\.npy"):
        BlockedArray(path, marks, 4, "gcl-custom run")


def test_an_array_that_finds_no_room_has_no_blocks(tmp_path: Path) -> None:
    path, marks = tmp_path / "a.npy", tmp_path / "blocks.npy"
    with limited(1000), pytest.raises(OSError, match=re.escape(str(path))):
        BlockedArray.begin(path, marks, np.float64, (1000,), 10)
    assert not list(tmp_path.iterdir())
