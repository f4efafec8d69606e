from pathlib import Path

import pytest

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections.collection_names import expanded, is_pattern, is_there, may_be_collection


def test_a_pattern_stands_for_numbers_and_choices() -> None:
    assert expanded("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expanded("{train,val}/{0..1}.tar") == ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]
    assert expanded("plain.tar") == ["plain.tar"]
    with pytest.raises(UserError, match="more than 100,000 files"):
        expanded("{0..999}{0..999}.tar")
    with pytest.raises(UserError, match="more than 100,000 files"):
        expanded("{0..99999999999}.tar")


def test_what_a_command_is_given_is_a_collection_by_its_name(tmp_path: Path) -> None:
    for name in ("a.zip", "b.tar.gz", "c.yaml", "d{1}.yaml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.zip").mkdir()
    given = {
        name: may_be_collection(tmp_path / name) for name in ("a.zip", "b.tar.gz", "c.yaml", "folder.zip", "no.zip")
    }
    assert given == {"a.zip": True, "b.tar.gz": True, "c.yaml": False, "folder.zip": False, "no.zip": False}
    assert is_pattern(tmp_path / "{0..1}.tar")
    assert not is_pattern(tmp_path / "d{1}.yaml")
    assert is_there(tmp_path / "{0..1}.tar")
    assert not is_there(tmp_path / "no.zip")
