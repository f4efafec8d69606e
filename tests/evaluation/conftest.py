"""The packed tiles of a run, from which nothing was trained yet."""

import pytest
import torch
from scored_runs import draw, run_in

from gcl_custom.imagery import pack_tiles
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("packed")
    draw(folder / "imagery")
    run = run_in(folder)
    pack_tiles.pack_tiles(run)
    return run


@pytest.fixture(scope="session")
def store(packed: Run) -> TileStore:
    return TileStore(plan.tiles(packed).path)
