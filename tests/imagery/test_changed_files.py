import os
from pathlib import Path

import pytest
from masked_tiles import draw
from small_images import class_folders

from gcl_custom.imagery import changed_files
from gcl_custom.imagery import pack_tiles as packing
from gcl_custom.imagery.pack_tiles import pack_tiles
from gcl_custom.imagery.tile_store import MASKS, TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def run_on(root: Path, **data: object) -> Run:
    return Run(root.parent / "run", Recipe(name="run", data=DataSettings(root=str(root), size=16, **data)))


def test_tiles_are_looked_for_again_only_if_a_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "root")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    table = root / "labels.csv"
    table.write_text("file,labels\n" + "".join(f"{name},{'xy'[n % 2]}\n" for n, name in enumerate(names)))
    run = run_on(root, labels="labels.csv")
    pack_tiles(run)
    looked: list[DataSettings] = []
    real = changed_files.layout_of
    monkeypatch.setattr(changed_files, "layout_of", lambda data, card: looked.append(data) or real(data, card))
    assert (changed_files.changed(run), looked) == (None, [])

    (root / "notes.txt").write_text("no tile")  # another file: looked at once, and remembered
    assert [changed_files.changed(run) for _ in range(2)] == [None, None]
    assert len(looked) == 1

    before = table.stat()
    table.write_text(table.read_text().replace(",x", ",z"))  # of the same size, and at the same time
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert str(changed_files.changed(run)).endswith("other labels or splits")


def test_a_store_without_the_state_of_its_files_is_compared_tile_by_tile(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "root")
    run = run_on(root)
    pack_tiles(run)
    kept = plan.tiles(run).path / changed_files.SEEN
    kept.unlink()
    assert changed_files.changed(run) is None
    assert kept.is_file()
    (root / "forest" / "000.png").unlink()
    assert str(changed_files.changed(run)).endswith("1 gone")


@pytest.mark.parametrize("at", ["_near_duplicates", "write_index"])
def test_a_packing_anew_that_is_cut_short_is_not_taken_for_the_tiles_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The index, and the masks of other tiles, are on the disk then, but not the record of what they are."""
    root = draw(tmp_path / "root") if at == "write_index" else class_folders(tmp_path / "root")
    run = run_on(root)
    pack_tiles(run)
    stage, path = plan.tokenizer(run), plan.tiles(run).path
    stage.begin()
    stage.finish()
    for image in [path for path in root.rglob("0*0.png") if path.parent.name != "masks"]:
        image.unlink()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(packing, at, killed)
        with pytest.raises(KeyboardInterrupt):
            pack_tiles(Run(run.path, run.recipe, redo=True))
    pack_tiles(run)
    masks = path / MASKS
    assert not masks.is_file() or masks.stat().st_size == len(TileStore(path)) * 16 * 16
    anew = Run(tmp_path / "anew", run.recipe)
    pack_tiles(anew)
    assert plan.tiles(run).facts["content"] == plan.tiles(anew).facts["content"]
    assert not plan.tokenizer(run).done
