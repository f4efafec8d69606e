"""The scores of a study's cell, and its comparison with the baseline cell.

The runs of a cell differ in their seeds alone, so they have the same test tiles. What all their backbones say of these
is scored together, as if it were one run with several seeds.
"""

from typing import Any

import numpy as np

from gcl_custom.errors import UserError
from gcl_custom.evaluation.figures import Figure, capital, metric_title
from gcl_custom.evaluation.inference import blocks_of, labelled
from gcl_custom.evaluation.so_far import BySeed, predictions, scored
from gcl_custom.evaluation.verdict import result_of
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.statistics import Comparison, compare
from gcl_custom.runs import plan
from gcl_custom.runs.study import Cell


def scores_of(cell: Cell) -> dict[str, dict[str, Any]]:
    """The scores of a finished cell over all its runs, in the form of scores.json.

    Raises:
        UserError: its runs have different test tiles.
    """
    if len(cell.runs) == 1:
        scores: dict[str, dict[str, Any]] = read_json(plan.compare(cell.run).path / "scores.json")["scores"]
        return scores
    return scored(_tiles(cell), _predictions(cell))


def gains(cell: Cell, baseline: Cell) -> dict[str, Comparison]:
    """Metric of GCL -> comparison of a finished cell with its baseline, seed by seed and test tile by test tile.

    Empty where the two have different seeds.

    Raises:
        UserError: they have different test tiles.
    """
    if cell.seeds != baseline.seeds:
        return {}
    store = _tiles(cell, baseline)
    test = labelled(store, "test")
    truth, blocks = store.labels[test].numpy(), blocks_of(store, test)
    ours, theirs = _predictions(cell), _predictions(baseline)
    found = {}
    for figure in ours:
        if figure.arm == "gcl" and figure in theirs:
            rows = (np.stack([of[figure][seed] for seed in cell.seeds]) for of in (ours, theirs))
            results = (result_of(store.kind, figure.metric, each, truth, blocks) for each in rows)
            measure = capital(metric_title(figure.metric))
            found[figure.metric] = compare(measure, cell.name, baseline.name, *results)
    return found


def _predictions(cell: Cell) -> dict[Figure, BySeed]:
    """What the backbones of all runs say; of what is the same for every seed, that of the first run."""
    said: dict[Figure, BySeed] = {}
    for run in cell.runs:
        for figure, rows in predictions(run, TileStore(plan.tiles(run).path)).items():
            kept = said.setdefault(figure, {})
            kept |= {seed: row for seed, row in rows.items() if seed not in kept}
    return said


def _tiles(*cells: Cell) -> TileStore:
    """The tiles of all runs of some cells.

    Raises:
        UserError: their labelled test tiles differ, so that nothing can be compared tile by tile.
    """
    runs = [run for cell in cells for run in cell.runs]
    first = TileStore(plan.tiles(runs[0]).path)
    for run in runs[1:]:
        path = plan.tiles(run).path
        if path != first.path and _tested(TileStore(path)) != _tested(first):
            raise UserError(
                f"{run.path.name} and {runs[0].path.name} have different test tiles, in {path} and {first.path}, so "
                f"they cannot be compared tile by tile. Take what changes the tiles out of the study's baseline"
            )
    return first


def _tested(store: TileStore) -> list[Any]:
    """The labelled test tiles, and their labels."""
    test = labelled(store, "test")
    return [[store.sources[tile] for tile in test.tolist()], store.labels[test].tolist()]
