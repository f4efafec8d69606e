from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gcl_custom.evaluation import neighbours
from gcl_custom.evaluation.inference import labelled
from gcl_custom.files import write_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.reporting import examples
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_the_commonest_confusion_comes_first_and_in_it_the_tiles_that_most_seeds_confuse() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    said = np.array([[1, 1, 0, 1, 1, 2], [0, 1, 0, 2, 1, 2], [1, 1, 0, 2, 1, 2]])
    assert examples.confused_tiles(said, truth) == [(0, 1, [1, 0]), (1, 2, [3])]
    assert examples.confused_tiles(truth[None], truth) == []


def test_confused_tiles_and_neighbours_are_shown_with_their_classes(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    run: Run = make_run(tmp_path)
    assert examples.examples(run) == ""
    neighbours.find(run)
    store = TileStore(plan.tiles(run).path)
    truth = store.labels[labelled(store, "test")].numpy()
    stage = plan.probe(run, "gcl", run.recipe.compare.seeds[0])
    stage.begin()
    write_json(stage.path / "probes.json", {"linear": np.where(truth == 0, 1, truth).tolist()})
    stage.finish()
    shown = examples.examples(run)
    count = int((truth == 0).sum())
    assert f"{store.classes[0]}, taken for {store.classes[1]}: {count} tile" in shown
    found = min(neighbours.QUERIES, len(store.index("test")))
    assert shown.count("data:image/png") == 1 + 2 * found
    assert shown.count("; nearest: ") == found
