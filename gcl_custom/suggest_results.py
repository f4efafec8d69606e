"""From finished probes to a suggestion: every figure in a table and a plot, one rule, and what labels say of it.

The rule: the setting with the highest LiDAR, mean over seeds; of equal ones the first in the table. LiDAR is the one of
these measures that was made to foretell linear probes across settings of one method (arXiv:2312.04000). Two things to
know: its views are handcrafted, which may favour backbones that were trained on more of these, and likeness has no
better end, since views that show the tile unchanged teach as little as views that show something else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.figure import Figure as Canvas

from gcl_custom import console, plan, tables
from gcl_custom.statistics import rank_correlation
from gcl_custom.study import Cell, Grid, label
from gcl_custom.study_results import MARKERS, publish
from gcl_custom.suggest import MASK, RATE, Labels

RULE = "the highest LiDAR"
MEASURES: Mapping[str, tuple[str, Callable[[float], float] | None]] = {
    "rankme": ("RankMe", lambda value: value),
    "lidar": ("LiDAR", lambda value: value),
    "alpha": ("alpha, near 1", lambda value: -abs(value - 1)),
    "likeness": ("likeness", None),
}
"""Title, and how good a value is by the measure itself; None where it has no better end."""


def run(grid: Grid, labels: Labels | None) -> None:
    """Write ``results.json``, ``table.md``, ``plot.svg`` and ``plot.png``; show the table and the suggestion."""
    with grid.alone():
        results = collect(grid, labels)
        publish(grid.path, results, *table(results), draw(grid, results))
    if labels:
        _show_agreement(results["agreement"])
    for line in closing(results):
        console.say(line)


def collect(grid: Grid, labels: Labels | None) -> dict[str, Any]:
    """All that is shown, as JSON."""
    cells = [_outcome(cell, labels) for cell in grid.cells]
    chosen = max(cells, key=lambda found: found["lidar"])
    facts = plan.measures(grid.cells[0].run, grid.cells[0].run.recipe.compare.seeds[0]).facts
    return {
        "study": grid.study.name,
        "epochs": grid.cells[0].run.recipe.pretrain.epochs,
        "seeds": grid.cells[0].run.recipe.compare.seeds,
        "measured": {name: facts[name] for name in ("tiles", "split", "views", "delta", "fitted_ranks")},
        "cells": cells,
        "rule": RULE,
        "suggested": chosen["name"],
        "set": [f"{key}={value}" for key, value in chosen["place"].items()],
        "agreement": agreement(cells, chosen, labels.source) if labels else None,
    }


def _outcome(cell: Cell, labels: Labels | None) -> dict[str, Any]:
    stages = [plan.measures(cell.run, seed) for seed in cell.run.recipe.compare.seeds]
    seeds = {name: [float(stage.facts[name]) for stage in stages] for name in ("rankme", "lidar", "alpha")}
    mixed = plan.mixes_views(cell.run.recipe.pretrain)
    return {
        "name": cell.name,
        # A key that nothing depends on is no part of a suggestion.
        "place": {axis: label(value) for axis, value in cell.place.items() if axis != MASK or mixed},
        **{name: float(np.mean(values)) for name, values in seeds.items()},
        "likeness": plan.likeness(cell.run).facts["likeness"] if mixed else None,
        "each_seed": seeds,
        "score": labels.score(cell) if labels else None,
        "seconds": sum(plan.pretrain(cell.run, "gcl", s).seconds for s in cell.run.recipe.compare.seeds),
    }


def agreement(cells: Sequence[dict[str, Any]], chosen: dict[str, Any], source: str) -> dict[str, Any]:
    """What labelled scores say of each measure and of the suggestion; losses in points against the best cell.

    The p values take cells for independent. They share a generator and seeds, so read them as a lower bound.
    """
    scored = [found for found in cells if found["score"] is not None]
    best = max((found["score"] for found in scored), default=None)

    def loss(found: dict[str, Any] | None) -> float | None:
        return None if found is None or found["score"] is None else 100 * (best - found["score"])

    measures = {}
    for name, (_, goodness) in MEASURES.items():
        known = [found for found in scored if found[name] is not None]
        values = [goodness(found[name]) if goodness else found[name] for found in known]
        pick = known[int(np.argmax(values))] if goodness and known else None
        found = rank_correlation(values, [found["score"] for found in known])
        measures[name] = asdict(found) | {"pick": pick and pick["name"], "loss": loss(pick)}
    losses = [100 * (best - found["score"]) for found in scored]
    return {
        "source": source,
        "cells": len(scored),
        "measures": measures,
        "loss": loss(chosen),
        "loss_at_random": float(np.mean(losses)) if losses else None,
    }


def closing(results: dict[str, Any]) -> list[str]:
    """The suggestion in words that can be typed, and what it is worth."""
    epochs, seeds = results["epochs"], len(results["seeds"])
    probes = (
        f"probes of {epochs} {'epoch' if epochs == 1 else 'epochs'} with {seeds} {'seed' if seeds == 1 else 'seeds'}"
    )
    lines = [
        f"suggested, by {RULE}: " + " ".join(f"--set {text}" for text in results["set"]),
        f"This is an estimate from {probes}, without labels.",
    ]
    found = results["agreement"]
    if found is None:
        lines[-1] += (
            " In trials on EuroSAT and wildfire tiles it was not shown to beat a random choice (LOG.md); how well it "
            "agrees with your labels has not been measured here: --with-labels or --labels-from STUDY tells."
        )
    elif found["loss"] is None:
        lines.append(f"There is no score of it among the {found['source']}, so what it loses is unknown.")
    else:
        lines.append(
            f"By {found['source']}, the suggested setting scores {found['loss']:.1f} points below the best of "
            f"{found['cells']}; one picked at random {found['loss_at_random']:.1f} on average."
        )
    return lines


def table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows; means over seeds, with several of them also the least and the largest value."""
    scored = results["agreement"] is not None
    columns = ["mask probability", "mixing rate", "RankMe", "LiDAR", "alpha", "likeness"]
    columns += ["linear probe, validation"] * scored + ["seconds", ""]
    rows = []
    for found in results["cells"]:
        row = [found["place"].get(MASK, "any"), found["place"][RATE]]
        row += [_figure(found[name], found["each_seed"][name], places) for name, places in _PLACES.items()]
        row.append("" if found["likeness"] is None else f"{found['likeness']:.3f}")
        if scored:
            row.append("" if found["score"] is None else f"{100 * found['score']:.1f}")
        rows.append([*row, f"{found['seconds']:.0f}", "suggested" if found["name"] == results["suggested"] else ""])
    return columns, rows


_PLACES = {"rankme": 1, "lidar": 1, "alpha": 2}


def _figure(mean: float, seeds: Sequence[float], places: int) -> str:
    spread = f" ({min(seeds):.{places}f}-{max(seeds):.{places}f})" if len(seeds) > 1 else ""
    return f"{mean:.{places}f}{spread}"


def _show_agreement(found: dict[str, Any]) -> None:
    note = f"Against {found['source']}. Loss: points below the best cell, of the cell that the measure would pick"
    rows = []
    for name, (title, _) in MEASURES.items():
        row = found["measures"][name]
        rho, p, loss = (
            "" if row[key] is None else f"{row[key]:{form}}"
            for key, form in (("rho", "+.2f"), ("p", ".4f"), ("loss", ".1f"))
        )
        rows.append([title, rho, p, str(row["count"]), row["pick"] or "", loss])
    tables.show(["measure", "Spearman", "p", "cells", "picks", "loss"], rows)
    console.say(note)


def draw(grid: Grid, results: dict[str, Any]) -> Canvas:
    """Each measure over the mixing rate, one line for each mask probability; a ring marks the suggested setting."""
    panels = {"rankme": "RankMe", "lidar": "LiDAR", "alpha": "alpha (1 is good)"}
    if results["agreement"]:
        panels["score"] = "linear probe on validation tiles, %"
    canvas = Canvas(figsize=(3.2 * len(panels), 3.4), layout="constrained")
    for axes, (name, heading) in zip(np.atleast_1d(canvas.subplots(1, len(panels))), panels.items(), strict=True):
        scale = 100 if name == "score" else 1
        for number, mask in enumerate(label(value) for value in grid.study.grid[MASK]):
            line = [found for found in results["cells"] if found["place"].get(MASK, mask) == mask]
            line = sorted((f for f in line if f[name] is not None), key=lambda f: float(f["place"][RATE]))
            x, y = [float(found["place"][RATE]) for found in line], [scale * found[name] for found in line]
            axes.plot(x, y, marker=MARKERS[number % len(MARKERS)], label=f"mask probability {mask}")
            ring = [place for place, found in enumerate(line) if found["name"] == results["suggested"]]
            axes.plot([x[i] for i in ring], [y[i] for i in ring], "o", markersize=14, fillstyle="none", color="black")
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("mixing rate")
        axes.grid(alpha=0.2)
    canvas.axes[0].legend(frameon=False, fontsize=8)
    return canvas
