"""From the finished cells of a study to a table and a plot.

Test scores are reported; validation scores choose. The best cell is the one whose linear probe has the best validation
score.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.figure import Figure as Canvas

from gcl_custom import console, tables
from gcl_custom.evaluation.figures import FLOORS, metric_title, title
from gcl_custom.files import read_json, write_atomically
from gcl_custom.measures.statistics import FEW_SEEDS
from gcl_custom.reporting.study_scores import gains, scores_of
from gcl_custom.runs import plan
from gcl_custom.runs.study import Cell, Grid, compared, label

AGAINST = ("linear", "knn")
"""Metrics of GCL whose comparison with the baseline stands in the table and on the console."""
MARKERS = "osD^vPX*<>"


def show_study(grid: Grid) -> None:
    """Write ``results.json``, ``table.md``, ``plot.svg`` and ``plot.png``, and show the table."""
    with grid.alone():
        results = collect(grid)
        done = [found for found in results["cells"] if found["scores"]]
        publish(grid.path, results, *table(grid, results), draw(grid, results) if done else None, note(grid))
    if done:
        best = max(done, key=lambda found: found["valid"]["mean"])
        console.say(f"best on validation tiles: {best['name']} ({100 * best['valid']['mean']:.1f} %)")
        (cell,) = (cell for cell in grid.cells if cell.name == best["name"])
        where = ["--run", cell.run.name, "--runs", str(grid.path.parent)]
        console.say(f"its backbone: gcl-custom export --to timm --out FILE {shlex.join(where)}")
    for found in done:
        for metric in AGAINST:
            if metric in found["gains"]:
                console.say(f"{found['name']}: {found['gains'][metric]['sentence']}")
    console.say(f"{len(done)} of {len(grid.cells)} cells done; table, plot and results in {grid.path}")


def publish(
    folder: Path,
    results: dict[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    canvas: Canvas | None,
    note: str = "",
) -> None:
    """Write results.json, table.md, plot.svg and plot.png, and show the table with the note below it."""
    tables.publish(folder, results, columns, rows, note)
    if canvas is not None:
        for kind in ("svg", "png"):
            with write_atomically(folder / f"plot.{kind}") as part:
                canvas.savefig(part, format=kind, dpi=150)


def collect(grid: Grid) -> dict[str, Any]:
    """What the table and the plot are made from, as JSON; unfinished cells have no scores."""
    axes = {axis: [label(value) for value in values] for axis, values in grid.study.grid.items()}
    cells = [_outcome(grid, cell) for cell in grid.cells]
    return {"study": grid.study.name, "axes": axes, "seeds": grid.study.seeds, "cells": cells}


def _outcome(grid: Grid, cell: Cell) -> dict[str, Any]:
    place = {axis: label(value) for axis, value in cell.place.items()}
    other = grid.baseline_of(cell)
    outcome: dict[str, Any] = {
        "name": cell.name,
        "place": place,
        "runs": {run.path.name: compared(run) for run in cell.runs},
        "scores": None,
        "baseline": other and other.name,
        "gains": {},
    }
    if not cell.done:
        return outcome
    of_each = [(run, seed) for run in cell.runs for seed in run.recipe.compare.seeds]
    pretrained = [plan.pretrain(run, "gcl", seed) for run, seed in of_each]
    valid = [read_json(plan.probe(run, "gcl", seed).path / "probes.json")["valid"] for run, seed in of_each]
    outcome["scores"] = scores_of(cell)
    outcome["valid"] = {"seeds": valid, "mean": float(np.mean(valid))}
    ranks = [stage.facts["effective_rank"] for stage in pretrained if "effective_rank" in stage.facts]
    outcome["effective_rank"] = float(np.mean(ranks)) if ranks else None  # of very few tiles there is none
    outcome["seconds"] = float(np.mean([stage.seconds for stage in pretrained]))
    if other is not None and other.done:
        outcome["gains"] = {metric: found.as_dict() for metric, found in gains(cell, other).items()}
    return outcome


def table(grid: Grid, results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: a row for each cell, then the untrained one and the floors. In percent."""
    done = [found["scores"] for found in results["cells"] if found["scores"]]
    scored = [(arm, metric) for scores in done for arm, metrics in scores.items() for metric in metrics]
    below = ("untrained", *FLOORS)
    kept = list(dict.fromkeys(pair for pair in scored if pair[0] not in below))
    several = len({arm for arm, _ in kept}) > 1
    names = [f"{title(arm)}, {metric_title(metric)}" if several else metric_title(metric) for arm, metric in kept]
    axes = [axis.rpartition(".")[2].replace("_", " ") for axis in results["axes"]]
    columns = [*axes, "chosen by: validation", *names, "effective rank", "seconds"]
    against = [metric for metric in AGAINST if grid.study.baseline and ("gcl", metric) in kept]
    columns += [f"{metric_title(metric)} against the baseline" for metric in against]
    rows = []
    for found in results["cells"]:
        row = list(found["place"].values())
        if found["scores"] is None:
            row.append(_yet(found))
        else:
            scores = [found["scores"].get(arm, {}).get(metric) for arm, metric in kept]
            row += [f"{100 * found['valid']['mean']:.1f}", *(_points(score) if score else "" for score in scores)]
            rank = found["effective_rank"]
            row += ["" if rank is None else f"{rank:.1f}", f"{found['seconds']:.0f}"]
            row += [_against(found, metric) for metric in against]
        rows.append(row)
    for name in below if done else ():
        floor = [done[0].get(name, {}).get(metric) if arm == "gcl" else None for arm, metric in kept]
        if any(floor):
            rows.append([name, *[""] * len(axes), *(_points(score) if score else "" for score in floor)])
    return columns, [row + [""] * (len(columns) - len(row)) for row in rows]


def note(grid: Grid) -> str:
    """What the runs of a cell vary, where the study has seeds of its own."""
    seeds = ", ".join(map(str, grid.study.seeds))
    return f"Each cell is made for the seeds {seeds}: generator, views and pretraining anew." if seeds else ""


def _points(score: dict[str, Any]) -> str:
    interval = "" if score["low"] is None else f" ({100 * score['low']:.1f}-{100 * score['high']:.1f})"
    return f"{100 * score['mean']:.1f}{interval}"


def _yet(found: dict[str, Any]) -> str:
    """How far an unfinished cell is."""
    done = sum(found["runs"].values())
    return f"{done} of {len(found['runs'])} seeds run" if done else "not run yet"


def _against(found: dict[str, Any], metric: str) -> str:
    """The difference from the baseline with its intervals; one over few seeds would tell a reader nothing."""
    if found["baseline"] is None:
        return "baseline"
    gain = found["gains"].get(metric)
    if gain is None:
        return ""
    of_tiles = "blocks" if "block_count" in gain else "tiles"
    shown = {"seeds": gain["seeds"] if gain["seed_count"] >= FEW_SEEDS else None, of_tiles: gain["tiles"]}
    over = [
        f"over {name} {100 * found['low']:+.1f} to {100 * found['high']:+.1f}"
        for name, found in shown.items()
        if found and found["low"] is not None
    ]
    intervals = f" ({'; '.join(over)})" if over else ""
    return f"{100 * gain['difference']:+.1f}{intervals}, {gain['outcome']}"


def draw(grid: Grid, results: dict[str, Any]) -> Canvas:
    """The linear probe on test tiles over the last axis, with a line for each combination of the other axes."""
    *others, last = results["axes"]
    ticks = results["axes"][last]
    numeric = all(type(value) in (int, float) for value in grid.study.grid[last])  # true and false are no numbers
    places = [float(tick) for tick in ticks] if numeric else [float(number) for number in range(len(ticks))]
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for found in results["cells"]:
        if found["scores"]:
            name = ", ".join(f"{axis.rpartition('.')[2]} {found['place'][axis]}" for axis in others)
            lines.setdefault(name, []).append(
                (places[ticks.index(found["place"][last])], found["scores"]["gcl"]["linear"])
            )
    canvas = Canvas(figsize=(6.4, 4.0), layout="constrained")
    axes = canvas.add_subplot()
    step = (max(places) - min(places) or 1.0) * 0.012
    for number, (name, points) in enumerate(lines.items()):
        x = [place + step * (number - (len(lines) - 1) / 2) for place, _ in points]
        mean = [100 * score["mean"] for _, score in points]
        bars = [[100 * abs(score["mean"] - score[side]) for _, score in points] for side in ("low", "high")]
        line = "-" if numeric else ""
        axes.errorbar(x, mean, yerr=bars, marker=MARKERS[number % len(MARKERS)], linestyle=line, capsize=3, label=name)
    axes.set_xticks(places, ticks, rotation=0 if numeric or len(ticks) < 7 else 30)
    axes.set_xlabel(last)
    axes.set_ylabel("linear probe on test tiles, %")
    axes.grid(alpha=0.2)
    if others:
        axes.legend(frameon=False, fontsize=8)
    return canvas
