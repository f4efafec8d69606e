from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gcl_custom.evaluation import neighbours
from gcl_custom.evaluation.inference import infer
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import trained_backbone
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_neighbours_are_the_nearest_training_tiles_by_cosine(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    neighbours.find(run)
    found = read_json(neighbours.stage_of(run).path / neighbours.KEPT)
    store = TileStore(plan.tiles(run).path)
    test, train = store.index("test").tolist(), store.index("train")
    assert {row["tile"] for row in found} <= set(test)
    stage = plan.pretrain(run, "gcl", run.recipe.compare.seeds[0])
    network, _ = trained_backbone.network_of(run, stage, store.bands)
    features = infer(network, store, torch.arange(len(store)), run.recipe.hardware)
    for row in found:
        like = F.cosine_similarity(features[row["tile"]][None], features[train])
        expected = train[like.argsort(descending=True, stable=True)[: neighbours.NEAREST]].tolist()
        assert row["nearest"] == expected
        assert row["similarity"][0] == round(float(like.max()), 3)


def test_nothing_is_found_before_there_is_a_backbone_nor_twice(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    backbone = plan.pretrain(run, "gcl", run.recipe.compare.seeds[0]).path / trained_backbone.BACKBONE
    moved = backbone.rename(backbone.with_suffix(".away"))
    neighbours.find(run)
    assert not neighbours.stage_of(run).done
    moved.rename(backbone)
    neighbours.find(run)
    stamp = (neighbours.stage_of(run).path / neighbours.KEPT).stat().st_mtime_ns
    neighbours.find(run)
    assert (neighbours.stage_of(run).path / neighbours.KEPT).stat().st_mtime_ns == stamp
