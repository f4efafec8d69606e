"""Stage: score given backbones on the tiles of a recipe, without any generator: linear probe, kNN, and fine-tuning.

Weights that are the same for every seed are probed once, since a probe draws nothing at random. Beside a backbone with
several seeds their one result stands for each of those; two such results leave only the test tiles to vary.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Shaped

from gcl_custom import console
from gcl_custom.evaluation import scoring
from gcl_custom.evaluation.given_backbones import Source, sources
from gcl_custom.evaluation.inference import labelled
from gcl_custom.evaluation.verdict import Truth, capital, metric_title, score, share_name
from gcl_custom.files import write_json
from gcl_custom.imagery.splits import in_words
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import LabelKind
from gcl_custom.measures.statistics import Comparison, compare
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

REMEDY = "gcl-custom evaluate"

BySeed = dict[int | None, Shaped[np.ndarray, "tiles *_"]]
"""By seed, what was said of each test tile; None is the seed of what does not depend on it."""
ByBackbone = dict[str, dict[str, BySeed]]
"""By backbone and metric."""


def evaluate(run: Run, given: Sequence[str], finetune: bool) -> None:
    """Write ``evaluate/scores.json`` and show it.

    Args:
        given: the backbones, each as NAME=SPEC.
        finetune: train the whole networks, too, at the recipe's label fractions.

    Raises:
        UserError: where tiles lack labels, or a backbone is not there or does not fit them.
    """
    scoring.require_labels(run)
    store = TileStore(plan.tiles(run).path)
    found = sources(run, store, given)
    for source in found:  # a mistake in the last one shows before work on the first
        if not all(_probe_stage(run, source, seed).done for seed in _probed_seeds(source)):
            source.build(source.seeds[0])
    said: ByBackbone = {source.name: {} for source in found}
    warnings: list[str] = []
    kind, truth = store.kind, store.labels[labelled(store, "test")].numpy()
    for source in found:
        for seed in _probed_seeds(source):
            probed = _probe(run, store, source, seed)
            for metric in kind.probes(len(store.classes)):
                said[source.name].setdefault(metric, {})[seed] = np.array(probed[metric])
            if not probed["converged"]:
                warnings.append(scoring.doubt(source.name if seed is None else f"{source.name}, seed {seed},"))
    for ours, theirs in combinations(found, 2):
        if not (ours.fixed or theirs.fixed or set(ours.seeds) & set(theirs.seeds)):
            warnings.append(f"{ours.name} and {theirs.name} have no seed in common, so they are not compared.")
    rates: dict[str, float] = {}
    shares = [share_name(fraction) for fraction in run.recipe.compare.fractions] if finetune else []
    for source in found:
        for share in shares:
            rate = _choose_rate(run, store, source, share)
            rates[f"{source.name} finetune@{share}"] = rate
            said[source.name][f"finetune@{share}"] = {
                seed: np.array(_train(run, store, source, share, seed, rate)["test"]) for seed in source.seeds
            }
    scores = {
        "tiles": plan.tiles(run).output,
        "measure": kind.measure,
        "test_tiles": len(truth),
        "classes": store.classes,
        "backbones": {s.name: {"spec": s.spec, "seeds": list(s.seeds), "input": s.input} for s in found},
        "scores": {
            name: {m: _score(kind, rows, truth) for m, rows in metrics.items()} for name, metrics in said.items()
        },
        "comparisons": [c.as_dict() for c in comparisons(kind, said, truth)],
        "labels": {share: len(scoring.train_tiles(store, share, run.recipe.compare.seeds[0])) for share in shares},
        "learning_rates": rates,
        "split": in_words(plan.tiles(run).facts),
        "warnings": warnings,
    }
    folder = run.path / "evaluate"
    write_json(folder / "scores.json", scores)
    show(scores)
    console.say(f"scores: {folder / 'scores.json'}")


# ---------------------------------------------------------------- probes and trainings, each a stage


def _probed_seeds(source: Source) -> Sequence[int | None]:
    return [None] if source.fixed else source.seeds


def _probe_stage(run: Run, source: Source, seed: int | None) -> Stage:
    settings = plan.probe_settings(run.recipe, dict(source.identity), seed)
    name = source.name if seed is None else f"{source.name}-{seed}"
    return run.stage(f"evaluate/probes/{name}", settings, _inputs(run, source, seed), REMEDY)


def _probe(run: Run, store: TileStore, source: Source, seed: int | None) -> dict[str, Any]:
    first = source.seeds[0] if seed is None else seed
    return scoring.probe(_probe_stage(run, source, seed), store, run.recipe, lambda: source.build(first))


def _choose_rate(run: Run, store: TileStore, source: Source, share: str) -> float:
    return scoring.best_rate(
        run.recipe.compare.learning_rates,
        lambda rate: _train(run, store, source, share, source.seeds[0], rate)["valid"],
    )


def _train(run: Run, store: TileStore, source: Source, share: str, seed: int, rate: float) -> dict[str, Any]:
    backbone = {**source.identity, "crop_size": run.recipe.pretrain.crop_size}
    settings = scoring.train_settings(run.recipe, backbone, share, seed, rate)
    name = f"evaluate/finetune/{source.name}-{seed}-{share}-{rate:g}"
    stage = run.stage(name, settings, _inputs(run, source, seed), REMEDY)
    return scoring.train(stage, store, run.recipe, lambda: source.build(seed), share, seed, rate)


def _inputs(run: Run, source: Source, seed: int | None) -> list[Stage]:
    return [plan.tiles(run), *source.stages(source.seeds[0] if seed is None else seed)]


# ---------------------------------------------------------------- what follows from them


def _score(kind: LabelKind, rows: BySeed, truth: Truth) -> dict[str, Any]:
    found = kind.result(np.stack(list(rows.values())), truth)
    return score(found, ["every" if seed is None else seed for seed in rows])


def comparisons(kind: LabelKind, said: Mapping[str, Mapping[str, BySeed]], truth: Truth) -> list[Comparison]:
    """Every two backbones by every measure that both have, over the seeds that both have."""
    measures = dict.fromkeys(metric for metrics in said.values() for metric in metrics)
    found = []
    for metric in measures:
        for ours, theirs in combinations([name for name in said if metric in said[name]], 2):
            if pair := _paired(said[ours][metric], said[theirs][metric]):
                our_result, their_result = (kind.result(rows, truth) for rows in pair)
                found.append(compare(capital(metric_title(metric)), ours, theirs, our_result, their_result))
    return found


def _paired(
    ours: BySeed, theirs: BySeed
) -> tuple[Shaped[np.ndarray, "seeds tiles *_"], Shaped[np.ndarray, "seeds tiles *_"]] | None:
    """Rows of the same seeds; a result that no seed changes stands beside each of the other's."""
    seeds = list(theirs) if None in ours else list(ours) if None in theirs else [s for s in ours if s in theirs]
    if not seeds:
        return None
    first, second = (np.stack([rows[None if None in rows else seed] for seed in seeds]) for rows in (ours, theirs))
    return first, second


def show(scores: dict[str, Any]) -> None:
    """The scores as a table, the comparisons, and what each network saw."""
    note = (
        f"{scoring.caption(scores['measure'])} The intervals are over seeds, or over test tiles where there is one "
        f"seed. A share of labels: fine-tuned"
    )
    names = {name: name for name in scores["scores"]}
    console.console.print(scoring.table(scores["scores"], names, note))
    for name, about in scores["backbones"].items():
        console.say(f"{name}: {about['spec']}; sees {about['input']}")
    for text in scores["warnings"]:
        console.warn(text)
    for text in (scores["split"], *(comparison["sentence"] for comparison in scores["comparisons"])):
        console.say(text)
