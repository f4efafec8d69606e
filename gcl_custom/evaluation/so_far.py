"""What an unfinished comparison has so far: the scores of the probes and trainings that are done."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from gcl_custom.evaluation import floors, scoring
from gcl_custom.evaluation.figures import ONCE, TITLES, Figure, share_name
from gcl_custom.evaluation.inference import blocks_of, labelled
from gcl_custom.evaluation.verdict import in_blocks, result_of, score
from gcl_custom.files import read_json
from gcl_custom.imagery.splits import told
from gcl_custom.imagery.tile_store import INDEX, TileStore
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.recipe.evaluation import WITH_LABELS, CompareSettings
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

BySeed = dict[int | str, Shaped[np.ndarray, "tiles *_"]]
"""Seed -> what a classifier said of each test tile."""


def so_far(run: Run) -> dict[str, Any] | None:
    """Scores as scores.json has them, of the seeds that are done, without comparisons; None where nothing is scored."""
    tiles = plan.tiles(run)
    if not tiles.done or not (tiles.path / INDEX).is_file():
        return None
    store = TileStore(tiles.path)
    test = labelled(store, "test")
    said = predictions(run, store)
    if not said or not len(test):
        return None
    trained = [figure.metric for figure in said if figure.metric.startswith(("finetune@", "supervised@"))]
    shares = {metric.partition("@")[2] for metric in trained}
    seeds = run.recipe.compare.seeds
    return {
        "measure": store.kind.measure,
        "seeds": seeds,
        "test_tiles": len(test),
        **in_blocks(blocks_of(store, test)),
        "classes": store.classes,
        "scores": scored(store, said),
        "labels": {share: len(scoring.train_tiles(store, share, seeds[0])) for share in shares},
        "split": told(run),
    }


def predictions(run: Run, store: TileStore) -> dict[Figure, BySeed]:
    """What every finished probe says of the test tiles, and every finished training with the chosen learning rate."""
    return _probed(run, store) | _trained(run)


def scored(store: TileStore, said: Mapping[Figure, BySeed]) -> dict[str, dict[str, Any]]:
    """Arm -> metric -> score over the seeds that said something."""
    test = labelled(store, "test")
    truth, blocks = store.labels[test].numpy(), blocks_of(store, test)
    scores: dict[str, dict[str, Any]] = {arm: {} for arm in TITLES if any(figure.arm == arm for figure in said)}
    for figure, rows in said.items():
        found = result_of(store.kind, figure.metric, np.stack(list(rows.values())), truth, blocks)
        scores[figure.arm][figure.metric] = score(found, list(rows))
    return scores


def probe_stages(run: Run, kind: LabelKind) -> list[tuple[str, int | str, Stage]]:
    """Arm, seed and stage of every probe of the comparison; what is the same for every seed is one."""
    recipe = run.recipe
    pretrained = arms.pretrained(recipe)
    stages: dict[tuple[str, int | str], Stage] = {
        (arm, "every" if arm in ONCE else seed): plan.probe(run, arm, seed)
        for arm in (*pretrained, *arms.beginnings(recipe))
        for seed in recipe.compare.seeds
    }
    stages |= {(floor, "every"): plan.floor(run, floor, floors.SETTINGS[floor]) for floor in kind.floors}
    return [(*key, stage) for key, stage in stages.items()]


def training_stages(run: Run) -> list[tuple[Figure, int, float, Stage]]:
    """Figure, seed, learning rate and stage of every training that the comparison may need."""
    compare = run.recipe.compare
    return [
        (figure, seed, rate, scoring.training_stage(run, figure, seed, rate))
        for figure in figures_trained(compare)
        for seed in compare.seeds
        for rate in compare.learning_rates
    ]


def _probed(run: Run, store: TileStore) -> dict[Figure, BySeed]:
    said: dict[Figure, BySeed] = {}
    for arm, seed, stage in probe_stages(run, store.kind):
        if stage.done and (stage.path / "probes.json").is_file():
            kept = read_json(stage.path / "probes.json")
            for metric in scoring.probed_metrics(run.recipe.compare, store.kind, len(store.classes)):
                if metric in kept:
                    said.setdefault(Figure(arm, metric), {})[seed] = np.array(kept[metric])
    return said


def _trained(run: Run) -> dict[Figure, BySeed]:
    """Trainings with the chosen learning rate. There is none before all rates are tried with the first seed."""
    compare = run.recipe.compare
    done: dict[Figure, dict[tuple[int, float], Any]] = {}
    for figure, seed, rate, stage in training_stages(run):
        if stage.done:
            done.setdefault(figure, {})[seed, rate] = read_json(stage.path / "predictions.json")
    said: dict[Figure, BySeed] = {}
    for figure, found in done.items():
        tried = {rate: kept["valid"] for (seed, rate), kept in found.items() if seed == compare.seeds[0]}
        if len(tried) == len(compare.learning_rates):
            chosen = scoring.best_rate(compare.learning_rates, tried.__getitem__)
            said[figure] = {seed: np.array(kept["test"]) for (seed, rate), kept in found.items() if rate == chosen}
    return said


def figures_trained(compare: CompareSettings) -> list[Figure]:
    """The figures of a comparison that trainings with labels give."""
    shares = [share_name(fraction) for fraction in compare.fractions]
    pretrained = [arm for arm in compare.arms if arm not in WITH_LABELS]
    tuned = [Figure(arm, f"finetune@{share}") for arm in pretrained for share in shares]
    every_share = dict.fromkeys([*shares, "all"])
    labelled_arms = [arm for arm in compare.arms if arm in WITH_LABELS]
    return [*tuned, *(Figure(arm, f"supervised@{share}") for arm in labelled_arms for share in every_share)]
