"""The report's sections about scores: from the JSON of a comparison or an evaluation to HTML, with all text escaped."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from gcl_custom.evaluation.verdict import (
    FLOORS,
    NO_NETWORK,
    OF_DRAWS,
    column_title,
    in_columns,
    metric_title,
    share_title,
    title,
)
from gcl_custom.measures.label_kinds import kind_scored_by
from gcl_custom.recipe.evaluation import WITH_LABELS
from gcl_custom.reporting.plots import Point, forest, label_fractions

CONFUSION_CLASSES = 30
"""The most classes for which a matrix is readable; with more, the most common confusions are listed."""

Scores = dict[str, Any]
"""The content of ``scores.json``."""


def verdict(scores: Scores | None) -> str:
    if scores is None:
        sentence, rest = (
            "There is no verdict yet.",
            "It needs labels and a finished comparison: gcl-custom compare-supervised",
        )
        return f'<div class="card verdict"><p class="sentence">{sentence}</p><p>{rest}</p></div>'
    return (
        f'<div class="card verdict"><p class="sentence">{escape(scores["verdict"])}</p><p>{escape(scores["cause"])}</p>'
        f'<p class="soft">{escape(scores["split"])} A difference counts as shown only if its 95 % intervals over seeds '
        f"and over test tiles both leave out zero.</p></div>"
    )


def table(scores: Scores | None) -> str:
    if scores is None:
        return ""
    kind = kind_scored_by(scores["measure"])
    over = (
        f"over {len(scores['seeds'])} seeds"
        if len(scores["seeds"]) > 1
        else f"over test tiles ({kind.tile_interval}), one seed"
    )
    note = (
        f"{kind.report_caption}, mean and 95 % interval {over}; "
        f"{scores['test_tiles']:,} test tiles. Linear probe and kNN: frozen backbone, all labels. Trained: "
        "the whole network, from the pretrained backbone, or, for the "
        "supervised baseline, from what pretraining begins with. Controls without in-painting: reconstructed mixes in "
        "tiles as the tokenizer reconstructs them, paired the raw tiles; both with the augmentations that follow a "
        f"generative view. {OF_DRAWS} {NO_NETWORK}"
    )
    return f'<div class="card">{_rows(scores, title)}<p class="note">{escape(note)}</p></div>{_plots(scores)}'


def evaluated(scores: Scores) -> str:
    """The scores of given backbones, what they are and see, and the comparison of each pair."""
    kind = kind_scored_by(scores["measure"])
    note = (
        f"{kind.report_caption}, mean and 95 % interval, over seeds or, of one seed, over test tiles "
        f"({kind.tile_interval}); "
        f"{scores['test_tiles']:,} test tiles of {len(scores['classes'])} classes. {scores['split']} Linear probe and "
        "kNN: frozen backbone, all labels, once for weights that are the same for every seed. Trained: the whole "
        f"network, from the backbone's weights. {OF_DRAWS} {NO_NETWORK}"
    )
    about = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(found["spec"])}</td><td>{escape(found["input"])}</td>'
        f'<td class="number">{escape(", ".join(map(str, found["seeds"])))}</td></tr>'
        for name, found in scores["backbones"].items()
    )
    head = '<th></th><th>Weights</th><th>Sees</th><th class="number">Seeds</th>'
    compared = f'<h3>Compared</h3><ul class="answers card">{_items(scores["comparisons"])}</ul>'
    return (
        f'<div class="card">{_rows(scores, _given_title)}<p class="note">{escape(note)}</p></div>'
        f'<h3>The backbones</h3><div class="card"><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{about}</tbody></table></div></div>{compared if scores['comparisons'] else ''}"
    )


def _given_title(name: str) -> str:
    """A given backbone has the name that it was given; the floors beside it have their titles."""
    return title(name) if name in FLOORS else name


def _rows(scores: Scores, titled: Callable[[str], str]) -> str:
    """The scores with their intervals, a row for each backbone."""
    columns, backbones = in_columns(scores["scores"])
    names = [_trained(c, scores["labels"][c]) if c in scores["labels"] else column_title(c) for c in columns]
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    rows = ""
    for name, cells in backbones.items():
        rows += f'<tr><th scope="row">{escape(titled(name))}</th>{"".join(_cell(cells.get(c)) for c in columns)}</tr>'
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _plots(scores: dict[str, Any]) -> str:
    axis = kind_scored_by(scores["measure"]).axis
    best = {arm: found.get("linear", found.get("supervised@all")) for arm, found in scores["scores"].items()}
    rows = [
        (arm, title(arm), _point(1.0, score), list(score["seeds"].values())) for arm, score in best.items() if score
    ]
    lines, ticks = {}, {}
    for arm, found in scores["scores"].items():
        points = []
        for metric, score in found.items():
            kind, _, share = metric.partition("@")
            if kind in ("finetune", "supervised"):
                x = 1.0 if share == "all" else float(share)
                ticks[x] = "all" if share == "all" else f"{100 * x:g} %"
                points.append(_point(x, score))
        if points:
            how = "trained" if arm in WITH_LABELS else "fine-tuned"
            lines[arm] = (f"{title(arm)}, {how}", sorted(points))
    figures = {
        "With all labels": (
            forest(rows, axis),
            "Linear probe of each frozen backbone, and the supervised baseline trained with all labels. Small dots: "
            "seeds; large mark and bar: their mean and its 95 % interval.",
        )
    }
    if lines:
        figures["With fewer labels"] = (
            label_fractions(lines, dict(sorted(ticks.items())), axis),
            "Mean and 95 % interval; marks with the same labels are drawn side by side.",
        )
    return "".join(
        f'<h3>{name}</h3><figure class="card"><div class="plot">{plot}</div><figcaption>{caption}</figcaption></figure>'
        for name, (plot, caption) in figures.items()
    )


def _trained(share: str, tiles: int) -> str:
    return f"trained with {share_title(share)}: {tiles:,} tiles"


def _cell(score: Scores | None) -> str:
    if score is None:
        return '<td class="number soft">–</td>'
    interval = f"{100 * score['low']:.2f} – {100 * score['high']:.2f}"
    return f'<td class="number">{100 * score["mean"]:.2f}<span class="range">{interval}</span></td>'


def _point(x: float, score: dict[str, Any]) -> Point:
    return Point(x, score["mean"], score["low"], score["high"])


def answers(scores: Scores | None) -> str:
    if scores is None:
        return ""
    body = ""
    for question, comparisons in scores["answers"].items():
        body += f'<h3>{escape(question)}</h3><ul class="answers card">{_items(comparisons)}</ul>'
    return f"<p>{escape(scores['cause'])}</p>{body}"


def _items(comparisons: Sequence[Scores]) -> str:
    """Each comparison's outcome, and its sentence."""
    return "".join(
        f'<li><span class="badge {escape(c["outcome"].split()[0])}">{escape(c["outcome"])}</span>'
        f"<span>{escape(c['sentence'])}</span></li>"
        for c in comparisons
    )


def confusions(scores: Scores | None) -> str:
    if scores is None:
        return ""
    if not scores["confusion"]:
        return f'<p class="soft">{kind_scored_by(scores["measure"]).no_confusion}</p>'
    figures = ""
    for name, counts in scores["confusion"].items():
        arm, _, metric = name.partition(" ")
        draw = _matrix if len(scores["classes"]) <= CONFUSION_CLASSES else _commonest
        heading = f"{title(arm)}, {metric_title(metric)}"
        figures += f'<div class="card wide"><h3>{escape(heading)}</h3>{draw(counts, scores["classes"])}</div>'
    seeds = f"summed over {len(scores['seeds'])} seeds" if len(scores["seeds"]) > 1 else "one seed"
    return f'<p class="soft">Counts of test tiles, {seeds}.</p><div class="pair">{figures}</div>'


def _matrix(counts: list[list[int]], classes: list[str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    rows = ""
    for truth, row in enumerate(counts):
        cells = ""
        for guess, count in enumerate(row):
            shade = 0.55 * count / max(sum(row), 1)  # relative to the class, so that rare classes show too
            mark = ' class="true"' if guess == truth else ""
            cells += f'<td{mark} style="background:rgba(var(--heat),{shade:.3f})">{count:,}</td>'
        rows += f'<tr><th scope="row">{escape(classes[truth])}</th>{cells}</tr>'
    caption = "Row: true class. Column: predicted class. Shade: share of the row."
    return (
        f'<table class="confusion"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>'
        f"<caption>{caption}</caption></table>"
    )


def _commonest(counts: list[list[int]], classes: list[str]) -> str:
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n]
    rows = "".join(
        f'<tr><td>{escape(classes[i])}</td><td>{escape(classes[j])}</td><td class="number">{n:,}</td></tr>'
        for n, i, j in sorted(wrong, reverse=True)[:CONFUSION_CLASSES]
    )
    head = '<th>True class</th><th>Predicted class</th><th class="number">Tiles</th>'
    caption = "<caption>The commonest confusions.</caption>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{caption}</table>"
