"""From the predictions of all arms and seeds to the scores, the answers to five questions, and the verdict in words.

Grounds come before the verdict, since it depends on them: whether pretraining has learned anything, whether the
comparison can rank backbones at all, and whether the supervised baseline was trained enough to be compared with.

    1. Is GCL better than the backbone that pretraining began with, and than what needs no network?
    2. Is GCL better than the public weights that pretraining began with, if it did?
    3. Does GCL beat handcrafted augmentations only?
    4. Does GCL beat the supervised baseline?
    5. Does a control without in-painting show the same gain?

The linear probe decides; kNN and fine-tuning are reported beside it. A figure is named by its arm and its metric:

    linear, knn, knn5    probes of the frozen backbone, with all labels
    linear_top5          the same linear probe; a tile is right if its class has one of the five highest scores
    shots@5              a linear probe with five labels a class, the mean over several draws of them
    probe@0.01           a linear probe with that share of the labels, the mean over several draws
    finetune@0.01        fine-tuned from the backbone with that share of the labels; finetune@all with all labels
    supervised@0.01      the supervised baseline with that share; supervised@all with all labels
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from gcl_custom.counted import counted, percent, points, signed
from gcl_custom.evaluation.curves import Training, unsettled
from gcl_custom.evaluation.figures import (
    CAUTION,
    CONTROLS,
    FLOORS,
    LEARNED,
    OF_FEW,
    ONCE,
    TITLES,
    Figure,
    capital,
    metric_title,
    share_title,
)
from gcl_custom.measures.label_kind import LabelKind
from gcl_custom.measures.statistics import FEW_SEEDS, Comparison, Result, compare, mean_interval, seeds_can_show
from gcl_custom.recipe.evaluation import WITH_LABELS

SUPERVISED = Figure("supervised", "supervised@all")
Predictions = Mapping[Figure, Shaped[np.ndarray, "seeds ..."]]
"""What each seed's classifier said of each labelled test tile, as the kind of label keeps it; of a top-5 figure, the
five likeliest classes; of a figure with few labels, the same of each draw. The same seeds and tiles
for every figure; of a floor, one row for all seeds."""
Truth = Shaped[np.ndarray, "tiles *_"]
"""The labels of these tiles, as they are stored."""
Blocks = Int[np.ndarray, "tiles"] | None
"""The block of each of these tiles, where the tiles were divided by blocks or scenes: intervals are then over them."""
Trainings = Mapping[Figure, Sequence[Training]]
"""The trainings with labels, one for each seed."""


def result_of(
    kind: LabelKind, metric: str, rows: Shaped[np.ndarray, "seeds ..."], labels: Truth, blocks: Blocks = None
) -> Result:
    """What the predictions of a metric come to, to be scored and compared."""
    found = kind.drawn(rows, labels) if metric.partition("@")[0] in OF_FEW else kind.result(rows, labels)
    return found if blocks is None else found.in_blocks(blocks)


def summarise(
    kind: LabelKind,
    predictions: Predictions,
    labels: Truth,
    classes: Sequence[str],
    seeds: Sequence[int],
    trainings: Trainings | None = None,
    blocks: Blocks = None,
) -> dict[str, Any]:
    """Everything that follows from the predictions, as JSON: scores, confusion matrices, comparisons, the verdict.

    A supervised network of whose training nothing is known is not compared with.
    """
    trainings = trainings or {}
    results = {
        figure: result_of(kind, figure.metric, _beside_each(predicted, seeds), labels, blocks)
        for figure, predicted in predictions.items()
    }
    shown = [figure for figure in (Figure("gcl", "linear"), SUPERVISED) if figure in predictions]
    by_class = {f"{figure.arm} {figure.metric}": kind.by_class(predictions[figure], labels) for figure in shown}
    confusion = {
        f"{figure.arm} {figure.metric}": kind.confusion(predictions[figure], labels, len(classes)) for figure in shown
    }
    scores: dict[str, dict[str, Any]] = {arm: {} for arm in TITLES if any(figure.arm == arm for figure in results)}
    for figure, found in results.items():
        if figure.arm in ONCE:
            once = result_of(kind, figure.metric, predictions[figure][:1], labels, blocks)
            scores[figure.arm][figure.metric] = score(once, ["every"])
        else:
            scores[figure.arm][figure.metric] = score(found, seeds)
    unfit = {figure: why for figure in results if (why := _unfit(results, trainings, figure))}
    return {
        "measure": kind.measure,
        "seeds": list(seeds),
        "test_tiles": len(labels),
        **in_blocks(blocks),
        "classes": list(classes),
        "scores": scores,
        "confusion": {name: counts for name, counts in confusion.items() if counts is not None},
        "by_class": {name: found for name, found in by_class.items() if found is not None},
        "answers": {
            question: [_answer(*pair, unfit) for pair in comparisons]
            for question, comparisons in _answers(results).items()
        },
        "grounds": [*_learned(results), *_ranked(results), *_baseline(results, unfit)],
        "verdict": _verdict(results, kind.measure, unfit),
        "cause": _cause(results),
        "seeds_show": f"{capital(seeds_can_show(len(seeds)))}." if len(seeds) < FEW_SEEDS else "",
        "trainings": {f"{figure.arm} {figure.metric}": list(found) for figure, found in trainings.items()},
    }


def in_blocks(blocks: Blocks) -> dict[str, int]:
    """What a scores.json says of the blocks of its test tiles."""
    return {} if blocks is None else {"test_blocks": len(np.unique(blocks))}


def _beside_each(rows: Shaped[np.ndarray, "rows ..."], seeds: Sequence[int]) -> Shaped[np.ndarray, "seeds ..."]:
    """A row for each seed: what was computed once stands beside every seed."""
    return rows if len(rows) == len(seeds) else np.repeat(rows, len(seeds), axis=0)


def score(found: Result, seeds: Sequence[int | str]) -> dict[str, Any]:
    """Score per seed, and the mean with its interval: Student's t over seeds, or with few seeds over test tiles (or
    their blocks)."""
    estimate, few = mean_interval(found.scores), len(seeds) < FEW_SEEDS
    low, high = found.interval() if few else (estimate.low, estimate.high)
    assert low is not None, "several seeds have an interval"
    assert high is not None
    return {
        "seeds": {str(seed): float(value) for seed, value in zip(seeds, found.scores, strict=True)},
        "mean": estimate.mean,
        "low": max(0.0, low),
        "high": min(1.0, high),
        "interval": "seeds" if not few else "tiles" if found.blocks is None else "blocks",
    }


Results = Mapping[Figure, Result]
Unfit = Mapping[Figure, str]
"""Trainings that went on too briefly to be compared with -> why that is so."""
Pair = tuple[Figure, Comparison]
"""The figure that GCL is compared with, and the comparison."""


def _mean(results: Results, figure: Figure) -> str:
    return percent(float(results[figure].scores.mean()), results[figure].tiles)


def _compare(results: Results, ours: Figure, theirs: Figure) -> Comparison | None:
    """The comparison of two figures; None where one is missing."""
    if ours not in results or theirs not in results:
        return None
    measure, our_name = capital(metric_title(ours.metric)), TITLES[ours.arm]
    if theirs.arm in WITH_LABELS:
        measure = f"With {share_title(theirs.metric.partition('@')[2])}"
        our_name += " (linear probe)" if ours.metric == "linear" else " (fine-tuned)"
    return compare(measure, our_name, TITLES[theirs.arm], results[ours], results[theirs])


def _better(results: Results, ours: Figure, theirs: Figure) -> bool:
    comparison = _compare(results, ours, theirs)
    return comparison is not None and comparison.outcome == "better"


def _answers(results: Results) -> dict[str, list[Pair]]:
    """Question -> comparisons, the deciding one first; without the questions that these arms cannot answer."""
    linear = Figure("gcl", "linear")
    metrics = [figure.metric for figure in results if figure.arm == "gcl"]
    tuned = [metric for metric in metrics if metric.startswith("finetune")]
    asked = {
        LEARNED: [(linear, Figure(floor, "linear")) for floor in ("untrained", *FLOORS)],
        "Does GCL beat handcrafted augmentations only?": [
            (Figure("gcl", metric), Figure("handcrafted", metric)) for metric in metrics
        ],
        "Does GCL beat the supervised baseline?": [
            (linear, Figure("supervised", "supervised@all")),
            *((Figure("gcl", m), Figure("supervised", m.replace("finetune", "supervised"))) for m in tuned),
        ],
        "Does GCL beat supervised training from nothing?": [
            (linear, Figure("scratch", "supervised@all")),
            *((Figure("gcl", m), Figure("scratch", m.replace("finetune", "supervised"))) for m in tuned),
        ],
        "Does a control without in-painting show the same gain?": [
            pair
            for control in CONTROLS
            for pair in (
                (Figure(control, "linear"), Figure("handcrafted", "linear")),
                (linear, Figure(control, "linear")),
            )
        ],
        "Is GCL better than the public weights that it began with?": [
            (Figure("gcl", metric), Figure("public", metric)) for metric in metrics
        ],
    }
    answers = {
        question: [(theirs, found) for ours, theirs in pairs if (found := _compare(results, ours, theirs))]
        for question, pairs in asked.items()
    }
    return {question: comparisons for question, comparisons in answers.items() if comparisons}


def _answer(theirs: Figure, comparison: Comparison, unfit: Unfit) -> dict[str, Any]:
    """A comparison as JSON. What was trained too briefly may only be shown to be better all the same."""
    if theirs not in unfit or comparison.outcome == "worse":
        return comparison.as_dict()
    sentence = (
        f"{comparison.measure}: {comparison.theirs} is not trained enough to compare with {comparison.ours} "
        f"({points(comparison.difference, comparison.tile_count)}): {unfit[theirs]}."
    )
    return comparison.as_dict() | {"outcome": "not comparable", "sentence": sentence}


def _verdict(results: Results, measure: str, unfit: Unfit) -> str:
    """GCL's linear probe against handcrafted augmentations, its start, and supervision."""
    linear = Figure("gcl", "linear")
    phrases = []
    for other in (Figure("handcrafted", "linear"), Figure("public", "linear"), SUPERVISED):
        found = _compare(results, linear, other)
        if found is not None and not (other in unfit and found.outcome != "worse"):
            relation = {
                "better": "is better than",
                "worse": "is worse than",
                "not shown": "is not shown to differ from",
            }
            theirs = f"{TITLES[other.arm]}{' with all labels' if other.arm == 'supervised' else ''}"
            phrases.append(f"{relation[found.outcome]} {theirs} ({_mean(results, other)})")
    seeds = len(results[linear].scores)
    count = f"{counted(seeds, 'seed')}, {counted(results[linear].tiles, 'test tile')}"
    if not phrases:
        lacking = "no other arm that it can be compared with" if unfit else "no other arm to compare it with"
        return f"GCL reaches {_mean(results, linear)} (linear probe, {measure}; {count}); there is {lacking}."
    return f"GCL ({_mean(results, linear)}) {' and '.join(phrases)}: linear probe, {measure}; {count}."


# ---------------------------------------------------------------- grounds


def _learned(results: Results) -> list[str]:
    """Whether GCL's linear probe is better than that of what pretraining began with."""
    linear = Figure("gcl", "linear")
    begun = next((f for arm in ("public", "untrained") if (f := Figure(arm, "linear")) in results), None)
    found = _compare(results, linear, begun) if begun else None
    if begun is None or found is None:
        return []
    ours, theirs = _mean(results, linear), _mean(results, begun)
    figures = f"GCL's linear probe reaches {ours}, that of {TITLES[begun.arm]} {theirs}"
    if found.outcome == "better":
        return [f"Pretraining has learned something: {figures}."]
    if found.outcome == "worse":
        return [f"Pretraining has made the backbone worse: {figures}."]
    if found.seed_count == 1 and found.tiles.low is not None and found.tiles.low > 0 and found.tiles.high is not None:
        low, high = (signed(edge, found.tile_count) for edge in (found.tiles.low, found.tiles.high))
        tiles = "test tiles" if found.block_count is None else "blocks of test tiles"
        return [
            f"Pretraining seems to have learned something, but one seed cannot show it: {figures} "
            f"({points(found.difference, found.tile_count)}, {low} to {high} over {tiles})."
        ]
    return [f"Pretraining is not shown to have learned anything: {figures}."]


def _ranked(results: Results) -> list[str]:
    """Where no arm's linear probe is shown to be better than the best floor, that the arms cannot be ranked.

    A floor has no seeds, so with one seed the interval over test tiles decides alone.
    """
    floors = [figure for floor in FLOORS if (figure := Figure(floor, "linear")) in results]
    if not floors:
        return []
    best = max(floors, key=lambda figure: float(results[figure].scores.mean()))
    arms = [figure for figure in results if figure.metric == "linear" and figure.arm not in (*FLOORS, "untrained")]
    for arm in arms:
        found = _compare(results, arm, best)
        assert found is not None
        if found.tiles.excludes_zero and found.difference > 0 and (found.seed_count == 1 or found.seeds.excludes_zero):
            return []
    return [
        f"This comparison cannot rank backbones: {TITLES[best.arm]} reach {_mean(results, best)} without any network, "
        f"and no arm's linear probe is shown to be better."
    ]


def _baseline(results: Results, unfit: Unfit) -> list[str]:
    """Where the baseline with all labels is better in spite of a short training, nothing stands in the way."""
    found = _compare(results, Figure("gcl", "linear"), SUPERVISED)
    if SUPERVISED not in unfit or found is None or found.outcome == "worse":
        return []
    return [
        f"The supervised baseline with all labels is not trained enough to compare: it reaches "
        f"{_mean(results, SUPERVISED)}, but {unfit[SUPERVISED]}. Raise compare.supervised_epochs."
    ]


def _unfit(results: Results, trainings: Trainings, figure: Figure) -> str | None:
    """Why a supervised network cannot be compared with, in words; None if it can.

    It must lie above the probe of an untrained backbone with the same labels, where there is one, and its validation
    score must have levelled off.
    """
    kind, _, labels = figure.metric.partition("@")
    if kind != "supervised":
        return None
    untrained = Figure("untrained", "linear" if labels == "all" else f"probe@{labels}")
    reasons = []
    if untrained in results and results[figure].scores.mean() <= results[untrained].scores.mean():
        steps = max((training["steps"] for training in trainings.get(figure, ())), default=0)
        floor = f"the linear probe of an untrained backbone ({_mean(results, untrained)})"
        within = f" in {counted(steps, 'step')}" if steps else ""
        reasons.append(f"it did not get above {floor}{within}")
    if rising := unsettled(trainings.get(figure, ())):
        reasons.append(rising)
    return ", and ".join(reasons) or None


def _cause(results: Results) -> str:
    """Whether a gain over handcrafted augmentations can be the generator's."""
    linear, handcrafted = Figure("gcl", "linear"), Figure("handcrafted", "linear")
    gain = _compare(results, linear, handcrafted)
    if gain is None:
        return "Without the arm handcrafted, no gain can be measured."
    if gain.outcome != "better":
        return "No gain over handcrafted augmentations is shown, so there is none to explain."
    controls = [Figure(control, "linear") for control in CONTROLS if Figure(control, "linear") in results]
    if not controls:
        return f"No control was trained, so the cause of the gain is open ({CAUTION})."
    unbeaten = [c for c in controls if not _better(results, linear, c)]
    if not unbeaten:
        return "GCL is also better than every control, so the gain is the generator's."
    sharing = [c for c in unbeaten if _better(results, c, handcrafted)]
    if sharing:
        names = " and ".join(TITLES[c.arm] for c in sharing)
        shows = "shows" if len(sharing) == 1 else "show"
        return f"The gain is not shown to be the generator's: {names} {shows} it too, and {CAUTION}."
    names = " and ".join(TITLES[c.arm] for c in unbeaten)
    return f"The gain is not shown to be the generator's: GCL is not shown to be better than {names}."
