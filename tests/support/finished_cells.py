"""Studies whose cells are finished, with known predictions, without any work."""

from pathlib import Path

import numpy as np
from written_index import write_lists

from gcl_custom.files import write_json
from gcl_custom.imagery.tile_store import SPLITS
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.study import Grid, load_study

LABELS = [0, 1, 0, 1]
STUDY = """
recipe: mine.yaml
settings: {compare.seeds: [0, 1], compare.arms: [gcl], compare.fractions: []}
grid:
  views.mask_probability: [0.25, 0.5]
  pretrain.mixing_rate: [0.0, 0.5]
baseline: {pretrain.mixing_rate: 0.0}
"""
REPLICATED = STUDY.replace("compare.seeds: [0, 1], ", "") + "seeds: [0, 1]\n"
"""The same study, with a generator of its own for each seed."""
PREDICTED = {  # mask probability, mixing rate -> for both seeds the linear probe's predictions; kNN says the opposite
    (0.25, 0.0): [[0, 0, 0, 0], [0, 1, 1, 1]],
    (0.25, 0.5): [[0, 1, 0, 0], [0, 1, 0, 1]],
    (0.5, 0.5): [[1, 0, 1, 0], [0, 0, 1, 0]],
}


def study(folder: Path, text: str = STUDY) -> Grid:
    (folder / "mine.yaml").write_text("data: {root: tiles}\n")
    (folder / "grid.yaml").write_text(text)
    return load_study(folder / "grid.yaml", folder / "runs")


def finish(run: Run) -> None:
    """All stages of a cell, as the real ones leave them where the results look."""
    for stage in plan.stages(run):
        if stage.done:
            continue
        stage.begin()
        facts: dict[str, float] = {}
        if stage.name == "tiles":
            about = {"files": [f"{n}.png" for n in range(4)], "labels": LABELS, "split": [SPLITS.index("test")] * 4}
            form = {"dtype": "uint8", "bands": 3, "size": 32, "rgb": True, "classes": ["a", "b"]}
            write_lists(
                stage.path,
                about | form | {"low": [0], "high": [255], "multi_label": False, "slots": [0, 1, 2, 3]},
            )
        if stage.name.startswith("pretrain"):
            facts = {"effective_rank": 10.0 + int(stage.name[-1])}
        if stage.name == "compare":
            p, rate = run.recipe.views.mask_probability, run.recipe.pretrain.mixing_rate
            predicted = PREDICTED[p if rate else 0.25, rate]
            for seed in run.recipe.compare.seeds:
                probe = plan.probe(run, "gcl", seed)
                if not probe.done:
                    probe.begin()
                    said = {"linear": predicted[seed], "knn": [1 - label for label in predicted[seed]]}
                    write_json(probe.path / "probes.json", said | {"valid": p + seed / 10})
                    probe.finish()
            right = (np.array(predicted) == LABELS).mean(1)
            score = {"mean": right.mean(), "low": right.min(), "high": right.max()}
            floor = {"linear": {"mean": 0.5, "low": 0.25, "high": 0.75}}
            write_json(stage.path / "scores.json", {"scores": {"gcl": {"linear": score}, "untrained": floor}})
        stage.finish(**facts)
