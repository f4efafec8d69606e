import gzip
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gcl_custom.imagery.collections import flat_bytes
from gcl_custom.imagery.collections.collection import MOST_BYTES, Unreadable
from gcl_custom.imagery.collections.flat_bytes import RAW, FlatBytes, InflatedBytes, PlainBytes

CONTENT = np.random.default_rng(0).integers(0, 16, 300_000).astype(np.uint8).tobytes()


def flat(path: Path, form: str) -> FlatBytes:
    if form == "plain":
        path.write_bytes(b"head" + CONTENT)
        return PlainBytes(path, 4)
    if form == "raw":
        deflate = zlib.compressobj(6, zlib.DEFLATED, RAW)
        path.write_bytes(b"head" + deflate.compress(CONTENT) + deflate.flush() + b"what follows")
        return InflatedBytes(path, 4, RAW)
    half = len(CONTENT) // 2 if form == "members" else len(CONTENT)
    path.write_bytes(gzip.compress(CONTENT[:half]) + b"\0" * 20 + (gzip.compress(CONTENT[half:]) + b"\0" * 9))
    return InflatedBytes(path)


@pytest.mark.parametrize("form", ["plain", "raw", "gzip", "members"])
def test_any_part_is_that_of_the_whole_in_any_order_and_from_any_thread(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with far more states than are kept, and hardly any undone bytes kept."""
    for name, value in (("SPAN", 4000), ("MOST_STATES", 8), ("KEPT", 5000), ("CHUNK", 512)):
        monkeypatch.setattr(flat_bytes, name, value)
    found = flat(tmp_path / "file", form)
    rng = np.random.default_rng(1)
    parts = [(int(first), int(rng.integers(9000))) for first in rng.integers(0, 290_000, 60)]
    with ThreadPoolExecutor(4) as pool:
        for (first, count), part in zip(parts, pool.map(lambda part: found.read_at(*part), parts), strict=True):
            assert part == CONTENT[first : first + count]
    assert found.read_at(len(CONTENT) - 5, 100) == CONTENT[-5:]
    assert found.read_at(len(CONTENT) + 5, 100) == b""
    with pytest.raises(Unreadable, match=r"truncated or damaged \(5 of 6 bytes are there\)"):
        found.exactly(len(CONTENT) - 5, 6)
    if isinstance(found, InflatedBytes):
        assert len(found._states) <= 8


@pytest.mark.parametrize("fault", ["cut", "changed"])
def test_damaged_bytes_are_refused(fault: str, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    if fault == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[len(packed) // 2 : len(packed) // 2 + 50] = bytes(50)
    (tmp_path / "file").write_bytes(packed)
    with pytest.raises(Unreadable, match="truncated or damaged"):
        InflatedBytes(tmp_path / "file").read_at(len(CONTENT) - 10, 10)


def test_more_than_a_tile_may_take_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b"0"))
    for found in (InflatedBytes(tmp_path / "file"), PlainBytes(tmp_path / "file")):
        with pytest.raises(Unreadable, match="too large"):
            found.read_at(0, MOST_BYTES + 1)
