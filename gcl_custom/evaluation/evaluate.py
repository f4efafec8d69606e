"""Stage: score given backbones on a recipe's tiles, without a generator: linear probe, kNN, and fine-tuning.

The floors that need no network stand beside them.

Weights that do not depend on the seed are probed once, since a probe is deterministic. Compared with a backbone of
several seeds, that one result is paired with each of them. Between two such results, only the test tiles vary.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from jaxtyping import Shaped

from gcl_custom import console
from gcl_custom.evaluation import score_backbone, scoring
from gcl_custom.evaluation.figures import FLOORS, TITLES, capital, metric_title, share_name, title
from gcl_custom.evaluation.given_backbones import GivenBackbone, given_backbones
from gcl_custom.evaluation.inference import blocks_of, labelled
from gcl_custom.evaluation.score_texts import of_draws, of_floors, tiles_or_blocks
from gcl_custom.evaluation.verdict import Blocks, Truth, in_blocks, result_of, score
from gcl_custom.files import write_json
from gcl_custom.imagery.splits import told
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.statistics import FEW_SEEDS, Comparison, compare
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

REMEDY = "gcl-custom evaluate --backbone NAME=SPEC"

BySeed = dict[int | None, Shaped[np.ndarray, "..."]]
"""Seed -> what a classifier said of each test tile, or the classifiers of each draw of few labels; the seed is None
where nothing depends on it."""
ByBackbone = dict[str, dict[str, BySeed]]
"""Backbone -> metric -> predictions by seed."""


def evaluate(run: Run, given: Sequence[str], finetune: bool) -> None:
    """Write ``evaluate/scores.json`` and show it.

    Args:
        given: the backbones, each as NAME=SPEC.
        finetune: also train the whole networks, at the recipe's label fractions.

    Raises:
        UserError: the tiles lack labels, or a backbone does not exist or does not fit them.
    """
    scoring.require_labels(run)
    store = TileStore(plan.tiles(run).path)
    backbones = given_backbones(run, store, given)
    for backbone in backbones:  # so that a mistake in the last one shows before work on the first begins
        if not all(_probe_stage(run, backbone, seed).done for seed in _probed_seeds(backbone)):
            backbone.build(backbone.seeds[0])
    said: ByBackbone = {backbone.name: {} for backbone in backbones}
    warnings: list[str] = []
    test = labelled(store, "test")
    kind, truth, blocks = store.kind, store.labels[test].numpy(), blocks_of(store, test)
    metrics = scoring.probed_metrics(run.recipe.compare, kind, len(store.classes))
    for backbone in backbones:
        for seed in _probed_seeds(backbone):
            probed = _probe(run, store, backbone, seed)
            for metric in metrics:
                said[backbone.name].setdefault(metric, {})[seed] = np.array(probed[metric])
            if not probed["converged"]:
                warnings.append(scoring.doubt(backbone.name if seed is None else f"{backbone.name}, seed {seed},"))
    below: ByBackbone = {}
    for floor in kind.floors:
        probed = score_backbone.probe_floor(run, store, floor)
        below[floor] = {metric: {None: np.array(probed[metric])} for metric in metrics if metric in probed}
        if not probed["converged"]:
            warnings.append(scoring.doubt(TITLES[floor]))
    for ours, theirs in combinations(backbones, 2):
        if not (ours.fixed or theirs.fixed or set(ours.seeds) & set(theirs.seeds)):
            warnings.append(f"{ours.name} and {theirs.name} have no seed in common, so they are not compared.")
    rates: dict[str, float] = {}
    shares = [share_name(fraction) for fraction in run.recipe.compare.fractions] if finetune else []
    for backbone in backbones:
        for share in shares:
            rate = _choose_rate(run, store, backbone, share)
            rates[f"{backbone.name} finetune@{share}"] = rate
            said[backbone.name][f"finetune@{share}"] = {
                seed: np.array(_train(run, store, backbone, share, seed, rate)["test"]) for seed in backbone.seeds
            }
    compared = [*comparisons(kind, said, truth, blocks), *above(kind, said, below, truth, blocks)]
    scores = {
        "tiles": plan.tiles(run).output,
        "measure": kind.measure,
        "test_tiles": len(truth),
        **in_blocks(blocks),
        "classes": store.classes,
        "backbones": {s.name: {"spec": s.spec, "seeds": list(s.seeds), "input": s.input} for s in backbones},
        "scores": {
            name: {m: _score(kind, m, rows, truth, blocks) for m, rows in found.items()}
            for name, found in (said | below).items()
        },
        "comparisons": [comparison.as_dict() for comparison in compared],
        "labels": {share: len(scoring.train_tiles(store, share, run.recipe.compare.seeds[0])) for share in shares},
        "learning_rates": rates,
        "split": told(run),
        "warnings": warnings,
    }
    folder = run.path / "evaluate"
    write_json(folder / "scores.json", scores)
    show(scores)
    console.say(f"scores: {folder / 'scores.json'}")


# ---------------------------------------------------------------- probes and trainings, each a stage


def _probed_seeds(backbone: GivenBackbone) -> Sequence[int | None]:
    return [None] if backbone.fixed else backbone.seeds


def _probe_stage(run: Run, backbone: GivenBackbone, seed: int | None) -> Stage:
    settings = plan.probe_settings(run, dict(backbone.identity), seed)
    name = backbone.name if seed is None else f"{backbone.name}-{seed}"
    return run.stage(f"evaluate/probes/{name}", settings, _inputs(run, backbone, seed), REMEDY)


def _probe(run: Run, store: TileStore, backbone: GivenBackbone, seed: int | None) -> dict[str, Any]:
    first = backbone.seeds[0] if seed is None else seed
    return score_backbone.probe(_probe_stage(run, backbone, seed), store, run.recipe, lambda: backbone.build(first))


def _choose_rate(run: Run, store: TileStore, backbone: GivenBackbone, share: str) -> float:
    return scoring.best_rate(
        run.recipe.compare.learning_rates,
        lambda rate: _train(run, store, backbone, share, backbone.seeds[0], rate)["valid"],
    )


def _train(run: Run, store: TileStore, backbone: GivenBackbone, share: str, seed: int, rate: float) -> dict[str, Any]:
    identity = {**backbone.identity, "crop_size": run.recipe.pretrain.crop_size}
    settings = scoring.train_settings(run.recipe, identity, share, seed, rate)
    name = f"evaluate/finetune/{backbone.name}-{seed}-{share}-{rate:g}"
    stage = run.stage(name, settings, _inputs(run, backbone, seed), REMEDY)
    return score_backbone.train(stage, store, run.recipe, lambda: backbone.build(seed), share, seed, rate)


def _inputs(run: Run, backbone: GivenBackbone, seed: int | None) -> list[Stage]:
    return [plan.tiles(run), *backbone.stages(backbone.seeds[0] if seed is None else seed)]


# ---------------------------------------------------------------- what follows from them


def _score(kind: LabelKind, metric: str, rows: BySeed, truth: Truth, blocks: Blocks) -> dict[str, Any]:
    found = result_of(kind, metric, np.stack(list(rows.values())), truth, blocks)
    return score(found, ["every" if seed is None else seed for seed in rows])


def comparisons(
    kind: LabelKind, said: Mapping[str, Mapping[str, BySeed]], truth: Truth, blocks: Blocks = None
) -> list[Comparison]:
    """Each pair of backbones, by each metric and over the seeds that both have."""
    measures = dict.fromkeys(metric for metrics in said.values() for metric in metrics)
    found = []
    for metric in measures:
        for ours, theirs in combinations([name for name in said if metric in said[name]], 2):
            if pair := _paired(said[ours][metric], said[theirs][metric]):
                our_result, their_result = (result_of(kind, metric, rows, truth, blocks) for rows in pair)
                found.append(compare(capital(metric_title(metric)), ours, theirs, our_result, their_result))
    return found


def above(
    kind: LabelKind,
    said: Mapping[str, Mapping[str, BySeed]],
    below: Mapping[str, Mapping[str, BySeed]],
    truth: Truth,
    blocks: Blocks = None,
) -> list[Comparison]:
    """The linear probe of each backbone and of each floor."""
    linear = capital(metric_title("linear"))
    found = []
    for ours, theirs in product(said, below):
        pair = _paired(said[ours]["linear"], below[theirs]["linear"])
        assert pair is not None, "a floor has no seeds, so it stands beside each"
        results = (result_of(kind, "linear", rows, truth, blocks) for rows in pair)
        found.append(compare(linear, ours, TITLES[theirs], *results))
    return found


def _paired(
    ours: BySeed, theirs: BySeed
) -> tuple[Shaped[np.ndarray, "seeds ..."], Shaped[np.ndarray, "seeds ..."]] | None:
    """Rows of the same seeds; a result without seeds is repeated beside each of the other's."""
    seeds = list(theirs) if None in ours else list(ours) if None in theirs else [s for s in ours if s in theirs]
    if not seeds:
        return None
    first, second = (np.stack([rows[None if None in rows else seed] for seed in seeds]) for rows in (ours, theirs))
    return first, second


def show(scores: dict[str, Any]) -> None:
    """The scores as a table, the comparisons, and what each network saw."""
    note = (
        f"{scoring.caption(scores['measure'])} The intervals are over seeds, or with fewer than {FEW_SEEDS} of them "
        f"over {tiles_or_blocks(scores)}. {of_draws(scores)} A share of labels: fine-tuned. {of_floors(scores)}"
    )
    names = {name: title(name) if name in FLOORS else name for name in scores["scores"]}
    console.console.print(scoring.tables(scores["scores"], names, note, scores["test_tiles"], console.console.width))
    for name, about in scores["backbones"].items():
        console.say(f"{name}: {about['spec']}; sees {about['input']}")
    for text in scores["warnings"]:
        console.warn(text)
    for text in (scores["split"], *(comparison["sentence"] for comparison in scores["comparisons"])):
        console.say(text)
