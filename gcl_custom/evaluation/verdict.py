"""From the predictions of all arms and seeds to the scores, the answers to five questions, and the verdict in words.

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
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from gcl_custom.measures.label_kinds import TOP_5, LabelKind
from gcl_custom.measures.statistics import Comparison, Result, compare, mean_interval
from gcl_custom.recipe.evaluation import WITH_LABELS

TITLES = {
    "gcl": "GCL",
    "handcrafted": "handcrafted augmentations only",
    "reconstructed": "the reconstructed control",
    "paired": "the paired control",
    "supervised": "the supervised baseline",
    "scratch": "the supervised baseline from nothing",
    "public": "the public start",
    "untrained": "an untrained backbone",
    "statistics": "the statistics of each band",
    "patches": "the words of patches (k-means)",
}
PROBES = {"linear": "linear probe", TOP_5: "linear probe, top-5", "knn": "kNN", "knn5": "kNN, 5 neighbours"}
OF_FEW = ("shots", "probe")
"""Kinds of metrics that are means over draws of a few labels."""
CONTROLS = ("reconstructed", "paired")
FLOORS = ("statistics", "patches")
"""Features that need no network. They depend on tiles alone, so they have one score, not one a seed."""
ONCE = (*FLOORS, "public")
"""Arms that are the same for every seed. Their intervals are over tiles."""
NO_NETWORK = (
    "Statistics of each band (mean, deviation, minimum, maximum) and words of patches (k-means, with these statistics) "
    "need no network and are computed once; their intervals are over test tiles."
)
"""What the floors are, below a table."""
OF_DRAWS = (
    "Linear probes with few labels: means over draws of the labels; where an interval is over test tiles, it is over "
    "draws, too."
)
"""What the figures with few labels are, below a table."""
LEARNED = "Has pretraining learned anything?"
CAUTION = "a gain that a control shows too is not the generator's"


class Figure(NamedTuple):
    arm: str
    metric: str


Predictions = Mapping[Figure, Shaped[np.ndarray, "seeds ..."]]
"""What each seed's classifier said of each labelled test tile, as the kind of label keeps it; of a top-5 figure, the
five likeliest classes; of a figure with few labels, the same of each draw. The same seeds and tiles
for every figure; of a floor, one row for all seeds."""
Truth = Shaped[np.ndarray, "tiles *_"]
"""The labels of these tiles, as they are stored."""


def title(arm: str) -> str:
    """An arm's name in a table or a legend."""
    return capital(TITLES[arm].removeprefix("the ").removeprefix("an "))


def metric_title(metric: str) -> str:
    kind, _, labels = metric.partition("@")
    if kind in PROBES:
        return PROBES[kind]
    if kind in OF_FEW:
        return f"linear probe with {_few_title(metric)}"
    return f"{'fine-tuned' if kind == 'finetune' else 'trained'} with {share_title(labels)}"


def column_title(column: str) -> str:
    """The title of a column of in_columns."""
    return PROBES.get(column) or (metric_title(column) if "@" in column else share_title(column))


def capital(text: str) -> str:
    """The text with a capital, as at the beginning of a sentence."""
    return text if text.startswith("kNN") else text[0].upper() + text[1:]


def share_name(fraction: float) -> str:
    """A label fraction in the names of figures and stages."""
    return "all" if fraction == 1 else f"{fraction:g}"


def share_title(labels: str) -> str:
    """1 % of labels, 10 % of labels, all labels."""
    return "all labels" if labels == "all" else f"{100 * float(labels):g} % of labels"


def _few_title(metric: str) -> str:
    kind, _, labels = metric.partition("@")
    return share_title(labels) if kind == "probe" else f"{labels} label{'' if labels == '1' else 's'} a class"


def result_of(kind: LabelKind, metric: str, rows: Shaped[np.ndarray, "seeds ..."], labels: Truth) -> Result:
    """What the predictions of a metric come to, to be scored and compared."""
    return kind.drawn(rows, labels) if metric.partition("@")[0] in OF_FEW else kind.result(rows, labels)


def summarise(
    kind: LabelKind, predictions: Predictions, labels: Truth, classes: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Everything that follows from the predictions, as JSON: scores, confusion matrices, comparisons, the verdict."""
    results = {
        figure: result_of(kind, figure.metric, _beside_each(predicted, seeds), labels)
        for figure, predicted in predictions.items()
    }
    confusion = {
        f"{figure.arm} {figure.metric}": kind.confusion(predictions[figure], labels, len(classes))
        for figure in (Figure("gcl", "linear"), Figure("supervised", "supervised@all"))
        if figure in predictions
    }
    scores: dict[str, dict[str, Any]] = {arm: {} for arm in TITLES if any(figure.arm == arm for figure in results)}
    for figure, found in results.items():
        if figure.arm in ONCE:
            once = result_of(kind, figure.metric, predictions[figure][:1], labels)
            scores[figure.arm][figure.metric] = score(once, ["every"])
        else:
            scores[figure.arm][figure.metric] = score(found, seeds)
    answers = _answers(results)
    return {
        "measure": kind.measure,
        "seeds": list(seeds),
        "test_tiles": len(labels),
        "classes": list(classes),
        "scores": scores,
        "confusion": {name: counts for name, counts in confusion.items() if counts is not None},
        "answers": {question: [c.as_dict() for c in comparisons] for question, comparisons in answers.items()},
        "verdict": _doubt(results) + _verdict(results, kind.measure),
        "cause": _cause(results),
    }


def _beside_each(rows: Shaped[np.ndarray, "rows ..."], seeds: Sequence[int]) -> Shaped[np.ndarray, "seeds ..."]:
    """A row for each seed: what was computed once stands beside every seed."""
    return rows if len(rows) == len(seeds) else np.repeat(rows, len(seeds), axis=0)


def score(found: Result, seeds: Sequence[int | str]) -> dict[str, Any]:
    """Score per seed, and the mean with its interval: Student's t over seeds, or over test tiles with one seed."""
    estimate = mean_interval(found.scores)
    if len(seeds) == 1:
        low, high = found.interval()
    else:
        low, high = estimate.low, estimate.high  # type: ignore[assignment]  # there is one, with several seeds
    return {
        "seeds": {str(seed): float(value) for seed, value in zip(seeds, found.scores, strict=True)},
        "mean": estimate.mean,
        "low": max(0.0, low),
        "high": min(1.0, high),
        "interval": "tiles" if len(seeds) == 1 else "seeds",
    }


Results = Mapping[Figure, Result]


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


def _answers(results: Results) -> dict[str, list[Comparison]]:
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
        question: [found for ours, theirs in pairs if (found := _compare(results, ours, theirs))]
        for question, pairs in asked.items()
    }
    return {question: comparisons for question, comparisons in answers.items() if comparisons}


def _verdict(results: Results, measure: str) -> str:
    """The sentence at the top: GCL's linear probe against handcrafted augmentations, its start, and supervision."""
    linear = Figure("gcl", "linear")
    phrases = []
    for other in (Figure("handcrafted", "linear"), Figure("public", "linear"), Figure("supervised", "supervised@all")):
        found = _compare(results, linear, other)
        if found is not None:
            relation = {
                "better": "is better than",
                "worse": "is worse than",
                "not shown": "is not shown to differ from",
            }
            theirs = f"{TITLES[other.arm]}{' with all labels' if other.arm == 'supervised' else ''}"
            theirs += f" ({percent(float(results[other].scores.mean()))})"
            phrases.append(f"{relation[found.outcome]} {theirs}")
    mean = percent(float(results[linear].scores.mean()))
    seeds = len(results[linear].scores)
    count = f"{seeds} seed{'s' if seeds > 1 else ''}, {results[linear].tiles:,} test tiles"
    if not phrases:
        return f"GCL reaches {mean} (linear probe, {measure}; {count}); there is no other arm to compare it with."
    return f"GCL ({mean}) {' and '.join(phrases)}: linear probe, {measure}; {count}."


def _doubt(results: Results) -> str:
    """The sentence that comes first where no arm's linear probe is shown to be better than the best floor.

    A floor has no seeds, so with one seed the interval over test tiles decides alone.
    """
    floors = [figure for floor in FLOORS if (figure := Figure(floor, "linear")) in results]
    if not floors:
        return ""
    best = max(floors, key=lambda figure: float(results[figure].scores.mean()))
    arms = [figure for figure in results if figure.metric == "linear" and figure.arm not in (*FLOORS, "untrained")]
    for arm in arms:
        found = _compare(results, arm, best)
        assert found is not None
        if found.tiles.excludes_zero and found.difference > 0 and (found.seed_count == 1 or found.seeds.excludes_zero):
            return ""
    return (
        f"This comparison cannot rank backbones: {TITLES[best.arm]} reach {percent(float(results[best].scores.mean()))}"
        " without any network, and no arm's linear probe is shown to be better. "
    )


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


def in_columns(scores: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Scores as a table: its columns, and for each arm column -> score.

    The columns are the probes with all labels and with few, then the shares of labels in ascending order, which
    fine-tuning and the supervised baseline share.
    """
    table = {arm: {_column(m): score for m, score in found.items()} for arm, found in scores.items()}
    known = {column for cells in table.values() for column in cells}
    few = [sorted((c for c in known if c.startswith(f"{of}@")), key=_labels) for of in OF_FEW]
    shares = sorted(known - set(PROBES) - {column for columns in few for column in columns}, key=_labels)
    return [*(probe for probe in PROBES if probe in known), *few[0], *few[1], *shares], table


def _column(metric: str) -> str:
    kind, _, labels = metric.rpartition("@")
    return metric if kind in OF_FEW else labels


def _labels(column: str) -> float:
    labels = column.rpartition("@")[2]
    return 1.0 if labels == "all" else float(labels)


def percent(share: float) -> str:
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"
