from pathlib import Path

import numpy as np
import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Form
from gcl_custom.imagery.packing_journal import PackingJournal, Record
from gcl_custom.imagery.source import Source
from gcl_custom.recipe.imagery import DataSettings

FORM = Form(2, "uint8")
DATA = DataSettings(root="r", size=16)


def tile(number: int) -> np.ndarray:
    return np.full((2, 16, 16), number, dtype=np.uint8)


def record(path: str, digest: str) -> Record:
    return Record(Source(path), 10, 1, digest, None)


def filled(folder: Path) -> PackingJournal:
    journal = PackingJournal(folder, FORM, DATA)
    journal.append([(record("a", "A"), tile(1)), (record("b", "B")._replace(kind="not an image"), None)])
    journal.append([(record("c", "C"), tile(3)), (record("copy of a", "A"), tile(1))])
    return journal


def test_a_content_is_kept_once_and_reopening_gives_the_same(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    slots = {str(source): found.slot for source, found in journal.records.items()}
    assert slots == {"a": 0, "b": None, "c": 1, "copy of a": 0}
    assert (tmp_path / "tiles-00000.bin").stat().st_size == 2 * journal.tile_bytes == 2 * 512
    again = PackingJournal(tmp_path, FORM, DATA)
    assert (again.records, again.digests, again.slots) == (journal.records, journal.digests, 2)


@pytest.mark.parametrize("torn", [b"", b"[", b'["d", 10, 1, "D", 2, "", "", fal'])
def test_half_written_blocks_are_cut_off(tmp_path: Path, torn: bytes) -> None:
    filled(tmp_path)
    pixels, lines = ((tmp_path / name).read_bytes() for name in ("tiles-00000.bin", "packing.jsonl"))
    with (tmp_path / "tiles-00000.bin").open("ab") as file:
        file.write(b"half a tile")
    with (tmp_path / "packing.jsonl").open("ab") as file:
        file.write(torn)
    assert PackingJournal(tmp_path, FORM, DATA).slots == 2
    assert (tmp_path / "tiles-00000.bin").read_bytes() == pixels
    assert (tmp_path / "packing.jsonl").read_bytes() == lines


def test_other_settings_share_nothing(tmp_path: Path) -> None:
    for form, data in [
        (Form(3, "uint8"), DATA),
        (Form(2, "uint16"), DATA),
        (FORM, DATA.model_copy(update={"size": 24})),
        (FORM, DATA.model_copy(update={"upscale": True})),
        (FORM, DATA.model_copy(update={"nodata": 0.1})),
    ]:
        assert filled(tmp_path).slots == 2
        assert PackingJournal(tmp_path, form, data).records == {}
        assert (tmp_path / "tiles-00000.bin").stat().st_size == 0
    filled(tmp_path)
    assert PackingJournal(tmp_path, FORM, DATA.model_copy(update={"bad_files": 0.9})).slots == 2


@pytest.mark.parametrize(("name", "content"), [("tiles-00000.bin", bytes(700)), ("packing.jsonl", None)])
def test_a_damaged_packing_is_not_filled_up_with_zeros(tmp_path: Path, name: str, content: bytes | None) -> None:
    filled(tmp_path)
    header = (tmp_path / "packing.jsonl").read_bytes().splitlines()[0]
    (tmp_path / name).write_bytes(content or header + b"\n{no line\n")
    with pytest.raises(UserError, match=rf"{name} is damaged.*Remove the folder {tmp_path}"):
        PackingJournal(tmp_path, FORM, DATA)
