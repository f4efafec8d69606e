"""The figures of a comparison: how arms and metrics are named and titled, and in which columns they stand."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gcl_custom.counted import counted
from gcl_custom.measures.label_kinds import LAST_MAP, TOP_5

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
    "pixels": "the values of a pixel",
    "surroundings": "the values around a pixel",
}
PROBES = {
    "linear": "linear probe",
    TOP_5: "linear probe, top-5",
    "knn": "kNN",
    "knn5": "kNN, 5 neighbours",
    LAST_MAP: "linear probe, last map",
}
OF_FEW = ("shots", "probe")
"""Kinds of metrics that are means over draws of a few labels."""
CONTROLS = ("reconstructed", "paired")
FLOORS = ("statistics", "patches", "pixels", "surroundings")
"""Features that need no network, of tiles and of pixels. They depend on tiles alone, so they have one score, not one a
seed. Which of them a comparison has, its kind of label says."""
ONCE = (*FLOORS, "public")
"""Arms that are the same for every seed. Their intervals are over tiles."""
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
    return share_title(labels) if kind == "probe" else f"{counted(int(labels), 'label')} a class"


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
