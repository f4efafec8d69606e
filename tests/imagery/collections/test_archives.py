import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from collected_images import png, tarred, zipped

from gcl_custom.errors import UserError
from gcl_custom.imagery.collections import collection
from gcl_custom.imagery.collections.archives import Archives
from gcl_custom.imagery.collections.collection import Unreadable

FILES = {f"{name}/{number}.png": png(number) for name in ("forest", "water") for number in range(3)}
FORMS = ("tiles.zip", "tiles.tar", "tiles.tar.gz")


def archive(path: Path, files: dict[str, bytes]) -> Archives:
    return Archives({"": zipped(path, files) if path.suffix == ".zip" else tarred(path, files)})


@pytest.mark.parametrize("form", FORMS)
def test_members_are_read_as_they_were_packed_and_others_are_counted(form: str, tmp_path: Path) -> None:
    others = {"notes.txt": b"x", ".hidden.png": b"x", "__MACOSX/forest/0.png": b"x", "./forest/dot.png": png(7)}
    found = archive(tmp_path / form, FILES | others)
    assert found.images == sorted([*FILES, "forest/dot.png"])
    assert {path: found.read(path) for path in FILES} == FILES
    assert found.notes == ["members of archives that are no images by their names, passed over: 1"]
    assert found.table("notes.txt") == b"x"
    assert found.table("gone.txt") is None
    assert found.labelled(None) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:/out.png"])
def test_a_name_that_leads_outside_is_passed_over_and_told(form: str, name: str, tmp_path: Path) -> None:
    found = archive(tmp_path / form, FILES | {name: png(9)})
    assert found.images == sorted(FILES)
    assert found.notes == ["members of archives whose names lead outside, passed over: 1"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_special_files_in_a_tar_are_not_followed(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = kind, str(tmp_path / "secret.png")
        tar.addfile(link)
        member = tarfile.TarInfo("a.png")
        member.size = len(png(2))
        tar.addfile(member, io.BytesIO(png(2)))
    found = Archives({"": tmp_path / "t.tar"})
    assert found.images == ["a.png"]
    assert found.notes == ["members of archives that are links or special files, passed over: 1"]


@pytest.mark.parametrize("form", FORMS)
def test_a_bomb_is_not_inflated(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered, so that a small one is too large."""
    monkeypatch.setattr(collection, "MOST_BYTES", 2**20)
    found = archive(tmp_path / form, {"bomb.png": bytes(2**21), "a.png": png(1)})
    with pytest.raises(Unreadable, match=r"too large \(2,097,152 bytes; at most 1,048,576"):
        found.read("bomb.png")
    assert found.read("a.png") == png(1)


def test_a_zip_that_declares_too_little_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"a.png": bytes(5000)})
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\1\2")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="not those that were zipped"):
        Archives({"": path}).read("a.png")


def test_what_a_zip_holds_otherwise_says_why(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"a.png": png(1)}, zipfile.ZIP_BZIP2)
    with pytest.raises(Unreadable, match="compressed in an unknown way"):
        Archives({"": path}).read("a.png")
    content = bytearray(zipped(path, {"a.png": png(1)}, zipfile.ZIP_STORED).read_bytes())
    content[content.rfind(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="encrypted"):
        Archives({"": path}).read("a.png")
    content[content.rfind(b"PK\1\2") + 8] &= 0xFE
    content[50] ^= 255
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="truncated or damaged"):
        Archives({"": path}).read("a.png")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["cut", "text"])
def test_a_damaged_archive_is_refused_by_name(form: str, fault: str, tmp_path: Path) -> None:
    files = {**FILES, "last.png": bytes(range(256)) * 40}
    archive(tmp_path / form, files)
    content = (tmp_path / form).read_bytes()
    (tmp_path / form).write_bytes(content[: len(content) // 2] if fault == "cut" else b"text")
    with pytest.raises(UserError, match=f"data.root: .*{form} is no (zip|tar) archive, or a damaged one"):
        Archives({"": tmp_path / form})


def test_shards_have_their_labels_beside_and_names_by_number(tmp_path: Path) -> None:
    """A key may hold dots; a number without a tile keeps its name."""
    first = {"-73.5,45.1.png": png(0), "-73.5,45.1.cls": b"2\n", "b.rgb.png": png(1), "b.cls": b"0", "c.png": png(2)}
    files = {
        "train-000.tar": tarred(tmp_path / "train-000.tar", first),
        "s2/val-001.tar": tarred(tmp_path / "s2" / "val-001.tar", {"a.png": png(3), "a.cls": b"2"}),
    }
    found = Archives(files, ["burnt", "cloud", "forest"])
    told = found.labelled(None)
    assert told is not None
    assert told.classes == ["burnt", "cloud", "forest"]
    assert {path: each.label for path, each in told.told.items()} == {
        "train-000.tar/-73.5,45.1.png": "forest", "train-000.tar/b.rgb.png": "burnt", "train-000.tar/c.png": None,
        "s2/val-001.tar/a.png": "forest",
    }  # fmt: skip
    assert "train" in told.told["train-000.tar/c.png"].words
    assert "val" in told.told["s2/val-001.tar/a.png"].words
    assert found.notes == []
    assert found.read("s2/val-001.tar/a.png") == png(3)
    assert found.file_of("s2/val-001.tar/a.png") == files["s2/val-001.tar"]


def test_a_label_may_stand_in_json_by_a_usual_key_or_a_given_one(tmp_path: Path) -> None:
    files = {f"{number}.png": png(number) for number in range(4)}
    about = [{"label": "x", "id": 7}, {"label": ["x", "y"], "id": 8}, {"id": 7}, [1]]
    files |= {f"{number}.json": json.dumps(each).encode() for number, each in enumerate(about)}
    found = archive(tmp_path / "t.tar", files)
    for key, labels, several in ((None, ["x", "x;y", None, None], True), ("id", ["7", "8", "7", None], False)):
        told = found.labelled(key)
        assert told is not None
        assert ([told.told[path].label for path in found.images], told.several) == (labels, several)


def test_several_archives_count_as_folders_without_the_numbers_of_shards(tmp_path: Path) -> None:
    names = {"train.zip": "a/1.png", "tiles-00.zip": "a/1.png", "s/007.zip": "1.png", "forest.zip": "forest/1.png"}
    found = Archives({name: zipped(tmp_path / name, {inner: png(1)}) for name, inner in names.items()})
    placed = {path: found.placed(path) for path in found.images}
    assert placed == {
        "train.zip/a/1.png": "train/a/train.zip:1.png", "tiles-00.zip/a/1.png": "tiles/a/tiles-00.zip:1.png",
        "s/007.zip/1.png": "s/007.zip:1.png", "forest.zip/forest/1.png": "forest/forest.zip:1.png",
    }  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_places_are_in_the_order_of_the_archive(form: str, tmp_path: Path) -> None:
    found = archive(tmp_path / form, dict(reversed(FILES.items())))
    assert sorted(found.images, key=found.place) == sorted(FILES, reverse=True)
