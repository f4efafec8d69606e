"""No two tiles of different splits show the same ground, in packing as in check."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_scenes import NORTH_UP, grid_from, settings, values, write_scene

from gcl_custom.check.survey import survey
from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.imagery import DataSettings, SplitSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def packed(tmp_path: Path, data: DataSettings) -> tuple[Run, TileStore]:
    run = Run(tmp_path / "run", Recipe(name="run", data=data))
    pack_tiles.pack_tiles(run)
    return run, TileStore(plan.tiles(run).path)


def covered(store: TileStore, offsets: dict[str, tuple[int, int]], size: int) -> np.ndarray:
    """How often each pixel of the ground is in a tile of each split, (3, y, x)."""
    found = np.zeros((3, size, size), dtype=int)
    for source, code in zip(store.sources, store.split.tolist(), strict=True):
        assert source.window is not None
        column, row = offsets[source.path]
        rows, columns = source.window.ends
        found[code, row + rows[0] : row + rows[1], column + columns[0] : column + columns[1]] += 1
    return found


@pytest.mark.parametrize("overlap", [0, 8])
@pytest.mark.parametrize("split", [{"by": "scene"}, {"by": "blocks", "block_km": 0.05}], ids=["scene", "blocks"])
def test_tiles_of_different_splits_share_no_pixel(
    split: dict[str, Any], overlap: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four scenes in a square, each of which overlaps its neighbours by 13 pixels."""
    offsets = {f"{number}.tif": (51 * (number % 2), 51 * (number // 2)) for number in range(4)}
    for number, (name, (column, row)) in enumerate(offsets.items()):
        place = grid_from(NORTH_UP, column, row)
        write_scene(tmp_path / "scenes" / name, values(64, 64, seed=number), transform=place)
    data = settings(tmp_path / "scenes", overlap=overlap, data_split=SplitSettings(**split))
    checked = survey(data)
    said = " ".join(capsys.readouterr().out.split())
    run, store = packed(tmp_path, data)
    found = covered(store, offsets, 128)
    assert (found > 0).any(axis=(1, 2)).all()
    assert (found > 0).sum(axis=0).max() == 1
    assert torch.equal(checked.split, store.split)
    assert torch.equal(checked.labels, store.labels)
    facts = plan.tiles(run).facts
    whole = 4 * len(range(0, 49, 16 - overlap)) ** 2
    assert facts["near_another_split"] == whole - store.count > 0
    assert facts["unusable"] == 0
    sentence = "tiles left out, as they share ground with tiles of another split (data.split.buffer_km)"
    assert sentence in said
    assert sentence in " ".join(capsys.readouterr().out.split())
    lines = (store.path / "unusable.txt").read_text().splitlines()
    assert len(lines) == whole - store.count
    assert all(line.endswith("\tnear another split") for line in lines)


def test_windows_that_were_left_out_are_no_news(tmp_path: Path) -> None:
    """They are neither added nor gone when a file changes."""
    write_scene(tmp_path / "scenes" / "a.tif", values(80, 80))
    data = settings(tmp_path / "scenes", overlap=8, data_split=SplitSettings())
    run, store = packed(tmp_path, data)
    assert store.count < len(range(0, 65, 8)) ** 2
    assert pack_tiles.changed(run) is None
    write_scene(tmp_path / "scenes" / "b.tif", values(16, 16), blockxsize=16, blockysize=16)
    assert str(pack_tiles.changed(run)).endswith(": 1 added")


def test_splits_may_share_ground_where_the_recipe_says_so(tmp_path: Path) -> None:
    for year in ("train/2020", "valid/2021", "test/2022"):
        write_scene(tmp_path / "scenes" / f"{year}.tif", values(64, 64))
    shared = settings(tmp_path / "scenes", data_split=SplitSettings(buffer_km=None))
    assert packed(tmp_path, shared)[1].count == 48
    with pytest.raises(Exception, match=r"None is left for the train and the valid split.*buffer_km: null"):
        survey(settings(tmp_path / "scenes", data_split=SplitSettings()))


def test_scenes_of_the_same_ground_are_divided_on_the_ground(tmp_path: Path) -> None:
    """Of several days, say: whole scenes would leave no training tile. Scenes side by side are divided whole."""
    for number in range(4):
        place = grid_from(NORTH_UP, 64 * number)
        write_scene(tmp_path / "stacked" / f"{number}.tif", values(64, 64, seed=number))
        write_scene(tmp_path / "beside" / f"{number}.tif", values(64, 64, seed=number), transform=place)
    run, store = packed(tmp_path, settings(tmp_path / "stacked", data_split=SplitSettings()))
    assert plan.tiles(run).facts["split"].startswith("by blocks of")
    split = dict(zip(store.sources, store.split.tolist(), strict=True))
    for source, code in split.items():
        assert {split.get(source._replace(path=f"{number}.tif"), code) for number in range(4)} == {code}
    assert "by scene" in survey(settings(tmp_path / "beside", data_split=SplitSettings())).told
