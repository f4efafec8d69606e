import json
from pathlib import Path

import pytest
from small_images import class_folders

from gcl_custom.errors import UserError
from gcl_custom.export.push_tiles import push_tiles
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import INDEX, TileStore
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.store import StoreSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder with the 24 tiles of a run, in shards of 4."""
    run = Run(tmp_path / "here", Recipe(name="here", data=data(class_folders(tmp_path / "root", 24))))
    pack_tiles.pack_tiles(run)
    push_tiles(run, f"file://{tmp_path}/far", 4 * 3 * 16 * 16 / 1e6, overwrite=False)
    return tmp_path / "far"


def data(root: Path, **changes: object) -> DataSettings:
    return DataSettings(**{"root": str(root), "size": 16, **changes})


def taking(far: Path, changes: dict[str, object] | None = None, **store: object) -> Run:
    settings = StoreSettings(address=f"file://{far}", cache=str(far.parent / "cache"), **store)
    run = Run(far.parent / "there", Recipe(name="there", data=data("gone", store=settings, **(changes or {}))))
    pack_tiles.pack_tiles(run)
    return run


def test_a_store_is_taken_without_files_and_without_fetching_a_shard(far: Path) -> None:
    run = taking(far)
    assert plan.tiles(run).done
    assert len(TileStore(plan.tiles(run).path)) == 24
    assert not (far.parent / "cache").exists()


def test_where_a_store_lies_and_how_it_is_cached_can_change_later(
    far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = plan.tiles(taking(far)).output
    moved = far.rename(far.with_name("moved"))
    run = taking(moved, cache_gb=1.0)
    assert "done before" in capsys.readouterr().out
    assert plan.tiles(run).output == output
    tiles = TileStore(plan.tiles(run).path)
    assert tiles.read(tiles.index("test")).shape == (len(tiles.index("test")), 3, 16, 16)
    assert plan.tiles(run).fingerprint != plan.tiles(taking_settings(run, mixed_shards=3)).fingerprint


def test_other_tiles_in_the_same_place_are_taken_only_if_the_user_says_so(far: Path) -> None:
    before = plan.tiles(taking(far)).output
    other = Run(far.parent / "other", Recipe(name="other", data=data(class_folders(far.parent / "more", 32))))
    pack_tiles.pack_tiles(other)
    push_tiles(other, f"file://{far}", 4 * 3 * 16 * 16 / 1e6, overwrite=True)
    run = taking(far)
    assert (plan.tiles(run).output, len(TileStore(plan.tiles(run).path))) == (before, 24)
    for _ in range(2):
        again = Run(run.path, run.recipe, redo=True)
        pack_tiles.pack_tiles(again)
        assert len(TileStore(plan.tiles(again).path)) == 32
    assert plan.tiles(again).output != before


def test_a_store_whose_index_is_gone_is_taken_again_only_if_the_user_says_so(far: Path) -> None:
    run = taking(far)
    before = plan.tiles(run).output
    (plan.tiles(run).path / INDEX).unlink()
    with pytest.raises(UserError, match=r"holds no packed tiles.* --redo$"):
        taking(far)
    again = Run(run.path, run.recipe, redo=True)
    pack_tiles.pack_tiles(again)
    assert (plan.tiles(again).output, len(TileStore(plan.tiles(again).path))) == (before, 24)


def taking_settings(run: Run, **store: object) -> Run:
    """The same run with other settings of the store; nothing is done."""
    assert run.recipe.data.store is not None
    changed = run.recipe.data.model_copy(update={"store": run.recipe.data.store.model_copy(update=store)})
    return Run(run.path, run.recipe.model_copy(update={"data": changed}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"size": 24}, r"data\.size: 16 there, 24 in this recipe"), ({"bad_files": 0.5}, r"data\.bad_files: 0\.05 there")],
)  # fmt: skip
def test_a_store_of_other_settings_is_refused(far: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=rf"was packed with other settings \({said}.*Set these keys"):
        taking(far, changes)
    assert not (far.parent / "there").exists()


def test_a_cache_for_fewer_shards_than_are_mixed_is_refused(far: Path) -> None:
    shard = 4 * 3 * 16 * 16
    with pytest.raises(UserError, match=r"data\.store\.cache_gb .* is too little: 2 mixed shards and two more take"):
        taking(far, cache_gb=(4 * shard - 1) / 1e9, mixed_shards=2)
    taking(far, cache_gb=4 * shard / 1e9, mixed_shards=2)


@pytest.mark.parametrize("fault", ["nothing", "index", "form"])
def test_half_a_store_and_one_of_another_version_are_refused(far: Path, fault: str) -> None:
    about = json.loads((far / "store.json").read_text())
    if fault == "nothing":
        (far / "store.json").unlink()
    elif fault == "index":
        (far / INDEX).write_bytes((far / INDEX).read_bytes()[:-1] + b"x")
    else:
        (far / "store.json").write_text(json.dumps(about | {"form": 0}))
    said = {"nothing": r"store\.json is not there", "index": "does not belong to store", "form": "by another version"}
    with pytest.raises(UserError, match=f"{said[fault]}.*gcl-custom push"):
        taking(far)
