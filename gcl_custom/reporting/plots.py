"""The report's plots, as inline SVG. Text and axes take the page's colour, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

# Okabe and Ito's colours, which colour-blind readers can tell apart; each with a marker, for prints in grey.
LOOKS: dict[str, tuple[str, str]] = {
    "gcl": ("#0072b2", "o"),
    "handcrafted": ("#e69f00", "s"),
    "reconstructed": ("#009e73", "^"),
    "paired": ("#cc79a7", "D"),
    "supervised": ("#d55e00", "v"),
    "scratch": ("#a34800", ">"),
    "public": ("#56b4e9", "P"),
    "untrained": ("#8a9299", "x"),
    "statistics": ("#8a9299", "1"),
    "patches": ("#8a9299", "+"),
    "pixels": ("#8a9299", "1"),
    "surroundings": ("#8a9299", "+"),
}
PLAIN = ("#0072b2", "")
_INK = "#010203"
"""A stand-in for the page's own colour."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gcl-custom",
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.14,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "font.size": 10,
}
_MARGINS = (0.235, 0.2, 0.735, 0.68)
"""Left, bottom, width and height of a small plot's axes. A report may hold a hundred such, and to find the best margins
of each takes as long again as to draw it."""


class Point(NamedTuple):
    """A mean score with its 95 % interval; x is the label fraction, if there is an axis for it."""

    x: float
    mean: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


class Line(NamedTuple):
    """One curve over epochs or steps."""

    label: str
    arm: str
    epochs: Sequence[float]
    values: Sequence[float]


class Form(NamedTuple):
    """How wide a plot is, in inches: one for a screen, one that is still readable on a phone."""

    width: float
    legend: int
    """Columns of the legend."""
    names_above: bool
    """Whether rows have their names above them, since there is no room beside."""


BROAD, NARROW = Form(8.4, 2, names_above=False), Form(4.4, 1, names_above=True)


def label_fractions(
    lines: Mapping[str, tuple[str, Sequence[Point]]], ticks: Mapping[float, str], score_axis: str, form: Form = BROAD
) -> str:
    """Scores against the share of labels.

    Args:
        lines: arm -> its title and points.
        ticks: share of labels -> its name.
        score_axis: what the scores are.
    """
    with matplotlib.rc_context(_STYLE):
        rows = -(-len(lines) // form.legend)
        canvas = Canvas(figsize=(form.width, 3.6 + 0.22 * rows), layout="constrained")
        axes = canvas.add_subplot()
        for place, (arm, (title, points)) in enumerate(lines.items()):
            colour, marker = LOOKS[arm]
            # Shifted by 2 % each, so that equal points and their bars stay visible.
            x = [point.x * 1.02 ** (place - (len(lines) - 1) / 2) for point in points]
            axes.errorbar(
                x,
                [100 * point.mean for point in points],
                yerr=_bars(points),
                color=colour,
                marker=marker,
                markersize=6,
                linewidth=1.6,
                capsize=3,
                label=title,
            )
            for at, point in zip(x, points, strict=True):
                _dots(axes, [at] * len(point.seeds), [100 * seed for seed in point.seeds], colour)
        axes.set_xscale("log")
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("share of the training labels (logarithmic)")
        axes.set_ylabel(score_axis)
        canvas.legend(loc="outside lower left", ncols=form.legend)
        return _svg(canvas, "Accuracy against the share of labels")


def forest(rows: Sequence[tuple[str, str, Point]], score_axis: str, form: Form = BROAD) -> str:
    """One row for each arm: a small dot for each seed, and their mean with its interval.

    Args:
        rows: arm, title, and mean with the scores of the seeds.
        score_axis: what the scores are.
    """
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(form.width, 0.8 + 0.5 * len(rows)), layout="constrained")
        axes = canvas.add_subplot()
        for place, (arm, title, point) in enumerate(rows):
            colour, marker = LOOKS[arm]
            _dots(axes, [100 * s for s in point.seeds], [place + 0.22] * len(point.seeds), colour)
            axes.errorbar(
                [100 * point.mean], [place], xerr=_bars([point]), color=colour, marker=marker, markersize=7, capsize=4
            )
            if form.names_above:
                axes.text(0, place - 0.3, title, transform=axes.get_yaxis_transform(), fontsize=9, va="center")
        axes.set_yticks(range(len(rows)), ["" if form.names_above else title for _, title, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(score_axis)
        return _svg(canvas, "Accuracy of each arm, with its interval")


def curves(name: str, lines: Sequence[Line], axis: str = "epoch") -> str:
    """A small plot of one figure over the epochs or steps of training, with a line for each run, coloured by arm."""
    with matplotlib.rc_context({**_STYLE, "font.size": 9}):
        canvas = Canvas(figsize=(3.5, 2.3))
        axes = canvas.add_axes(_MARGINS)
        for line in lines:
            colour, marker = LOOKS.get(line.arm, PLAIN)
            marker = marker if len(line.epochs) == 1 else ""
            axes.plot(line.epochs, line.values, color=colour, marker=marker or None, linewidth=1.3, alpha=0.85)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=9.5)
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        return _svg(canvas, f"{name} over the {axis}s")


def _dots(axes: Any, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Small marks, one for each seed."""
    axes.plot(x, y, "o", color=colour, markersize=3.5, alpha=0.6)


def _bars(points: Sequence[Point]) -> Any:
    """Lengths of the intervals below and above the means, in percentage points."""
    return [
        [max(0.0, 100 * (point.mean - point.low)) for point in points],
        [max(0.0, 100 * (point.high - point.mean)) for point in points],
    ]


def _svg(canvas: Canvas, description: str) -> str:
    file = io.StringIO()
    canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # names of groups, the same in every plot
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1 role='img' aria-label='@'>", text, count=1)
    return text.replace("aria-label='@'", f'aria-label="{_attribute(description)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
