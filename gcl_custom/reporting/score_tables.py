"""The report's sections about scores: from the JSON of a comparison or an evaluation to HTML, with all text escaped."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from gcl_custom.counted import counted, score_text
from gcl_custom.evaluation.figures import (
    FLOORS,
    column_title,
    in_columns,
    metric_title,
    share_title,
    title,
)
from gcl_custom.evaluation.score_texts import (
    how_over_tiles,
    interval_text,
    mean_text,
    of_draws,
    of_floors,
    of_probes,
    over,
    seeds_text,
    tiles_or_blocks,
)
from gcl_custom.measures.label_kinds import kind_scored_by
from gcl_custom.measures.statistics import FEW_SEEDS
from gcl_custom.recipe.evaluation import WITH_LABELS
from gcl_custom.reporting import html
from gcl_custom.reporting.html import Cell, text
from gcl_custom.reporting.plots import BROAD, LOOKS, NARROW, Line, Point, curves, forest, label_fractions

CONFUSION_CLASSES = 30
"""The most classes for which a matrix is readable; with more, the most common confusions are listed."""
PHONE_CLASSES, SIDE_BY_SIDE = 4, 6
"""The most for which it is readable on a phone, and for which two stand side by side."""

Scores = dict[str, Any]
"""The content of ``scores.json``."""


def verdict(scores: Scores) -> str:
    """Warnings and grounds, and below them the verdict, which depends on them."""
    before = [f'<li class="warned">{escape(text)}</li>' for text in scores["warnings"]]
    before += [f"<li>{escape(text)}</li>" for text in scores["grounds"]]
    after = "".join(f"<p>{escape(scores[key])}</p>" for key in ("cause", "seeds_show") if scores[key])
    return (
        f'<div class="card verdict"><ul class="grounds">{"".join(before)}</ul>'
        f'<p class="sentence">{escape(scores["verdict"])}</p>{after}'
        f'<p class="soft">{escape(scores["split"])} A difference counts as shown only if its 95 % intervals over seeds '
        f"and over {tiles_or_blocks(scores)} both leave out zero.</p></div>"
    )


def table(scores: Scores) -> str:
    """The scores with their intervals, and plots of them."""
    kind = kind_scored_by(scores["measure"])
    note = (
        f"{kind.report_caption}, mean and 95 % interval {over(scores)} (over tiles: {how_over_tiles(scores)}); "
        f"{counted(scores['test_tiles'], 'test tile')}. {of_probes(scores)}. Trained: "
        "the whole network, from the pretrained backbone, or, for the "
        "supervised baseline, from what pretraining begins with. Controls without in-painting: reconstructed mixes in "
        "tiles as the tokenizer reconstructs them, paired the raw tiles; both with the augmentations that follow a "
        f"generative view. {of_draws(scores)} {of_floors(scores)}"
    )
    return f'<div class="card">{_rows(scores, title)}<p class="note">{escape(note)}</p></div>{_plots(scores)}'


def evaluated(scores: Scores) -> str:
    """The scores of given backbones, what they are and see, and the comparison of each pair."""
    kind = kind_scored_by(scores["measure"])
    note = (
        f"{kind.report_caption}, mean and 95 % interval, over seeds or, of fewer than {FEW_SEEDS}, over "
        f"{tiles_or_blocks(scores)} ({how_over_tiles(scores)}); "
        f"{counted(scores['test_tiles'], 'test tile')} of "
        f"{counted(len(scores['classes']), 'class', 'classes')}. {scores['split']} "
        f"{of_probes(scores)}, once for weights that are the same for every seed. Trained: the whole "
        f"network, from the backbone's weights. {of_draws(scores)} {of_floors(scores)}"
    )
    rows = [
        (name, [text(found["spec"]), text(found["input"]), text(", ".join(map(str, found["seeds"])), number=True)])
        for name, found in scores["backbones"].items()
    ]
    about = html.table(["", "Weights", "Sees", "Seeds"], rows, [False, False, True])
    compared = f'<h3>Compared</h3><ul class="answers card">{_items(scores["comparisons"])}</ul>'
    return (
        f'<div class="card">{_rows(scores, _given_title)}<p class="note">{escape(note)}</p></div>'
        f'<h3>The backbones</h3><div class="card">{about}</div>{compared if scores["comparisons"] else ""}'
    )


def _given_title(name: str) -> str:
    """A given backbone has the name that it was given; the floors beside it have their titles."""
    return title(name) if name in FLOORS else name


def _rows(scores: Scores, titled: Callable[[str], str]) -> str:
    """The scores with their intervals, a row for each backbone."""
    columns, backbones = in_columns(scores["scores"])
    names = [_trained(c, scores["labels"][c]) if c in scores["labels"] else column_title(c) for c in columns]
    rows = [
        (titled(name), [_cell(cells.get(column), scores["test_tiles"]) for column in columns])
        for name, cells in backbones.items()
    ]
    return html.table(["", *names], rows, [True] * len(columns))


def _plots(scores: Scores) -> str:
    axis = kind_scored_by(scores["measure"]).axis
    best = {arm: found.get("linear", found.get("supervised@all")) for arm, found in scores["scores"].items()}
    rows = [(arm, title(arm), _point(1.0, score)) for arm, score in best.items() if score]
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
    figures = {}
    if rows:
        figures["With all labels"] = (
            html.plots(*(forest(rows, axis, form) for form in (BROAD, NARROW))),
            "Linear probe of each frozen backbone, and the supervised baseline trained with all labels. Small dots: "
            "seeds; large mark and bar: their mean and its 95 % interval.",
        )
    if lines:
        ordered = dict(sorted(ticks.items()))
        figures["With fewer labels"] = (
            html.plots(*(label_fractions(lines, ordered, axis, form) for form in (BROAD, NARROW))),
            "Mean and 95 % interval, small dots: seeds; marks with the same labels are drawn side by side.",
        )
    return "".join(
        f'<h3>{name}</h3><figure class="card">{plot}<figcaption>{caption}</figcaption></figure>'
        for name, (plot, caption) in figures.items()
    )


def trainings(scores: Scores) -> str:
    """The validation scores of trainings with labels over their steps; only those with all labels are unfolded."""
    shares: dict[str, list[Line]] = {}
    for name, seeds in scores["trainings"].items():
        arm, _, metric = name.partition(" ")
        for training in seeds:
            steps, values = zip(*training["curve"], strict=True)
            line = Line(name, arm, steps, [100 * value for value in values])
            shares.setdefault(metric.partition("@")[2], []).append(line)
    if not shares:
        return ""
    plots = {
        share: f'<figure class="card">{curves(f"validation score, {share_title(share)}, %", lines, "step")}</figure>'
        for share, lines in shares.items()
    }
    first = plots.pop("all", "")
    rest = f'<div class="curves">{"".join(plots.values())}</div>' if plots else ""
    legend = arms_in_colours(dict.fromkeys(line.arm for lines in shares.values() for line in lines))
    return (
        f"{legend}<p>The weights with the best validation score are scored. A training ends early where half of its "
        f"steps brought no better one. The supervised baseline is compared with if it lies above the probe of an "
        f"untrained backbone, and if the last third of its steps brought no gain beyond noise.</p>"
        f'<div class="curves">{first}</div>'
        + (f"<details><summary>With shares of the labels</summary>{rest}</details>" if rest else "")
    )


def arms_in_colours(arms: Iterable[str]) -> str:
    """The legend of curves: the arms in their colours."""
    keys = [f'<span style="color:{LOOKS[arm][0]}">━</span> {escape(title(arm))}' for arm in arms if arm in LOOKS]
    return f'<p class="soft">{"&emsp;".join(keys)}; a line for each seed</p>' if keys else ""


def _trained(share: str, tiles: int) -> str:
    return f"trained with {share_title(share)}: {counted(tiles, 'tile')}"


def _cell(score: Scores | None, tiles: int) -> Cell:
    if score is None:
        return Cell("–", number=True)
    each = seeds_text(score, tiles)
    seeds = f'<span class="range">seeds {each}</span>' if each else ""
    interval = f'<span class="range">{interval_text(score, tiles)}</span>'
    return Cell(f"{mean_text(score, tiles)}{interval}{seeds}", number=True)


def _point(x: float, score: Scores) -> Point:
    seeds = tuple(score["seeds"].values())
    return Point(x, score["mean"], score["low"], score["high"], seeds if len(seeds) > 1 else ())


def answers(scores: Scores) -> str:
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


def confusions(scores: Scores) -> str:
    if not scores["confusion"]:
        reason = f'<p class="soft">{kind_scored_by(scores["measure"]).no_confusion}</p>'
        return _by_class(scores) + reason if scores["by_class"] else reason
    figures, classes = "", scores["classes"]
    for name, counts in scores["confusion"].items():
        arm, _, metric = name.partition(" ")
        heading = f"{title(arm)}, {metric_title(metric)}"
        drawn = _commonest(counts, classes)
        if len(classes) <= PHONE_CLASSES:
            drawn = _matrix(counts, classes)
        elif len(classes) <= CONFUSION_CLASSES:
            drawn = f'<div class="broad">{_matrix(counts, classes)}</div><div class="narrow">{drawn}</div>'
        figures += f'<div class="card"><h3>{escape(heading)}</h3>{drawn}</div>'
    seeds = f"summed over {len(scores['seeds'])} seeds" if len(scores["seeds"]) > 1 else "one seed"
    side = "pair" if len(classes) <= SIDE_BY_SIDE else "below"
    return f'<p class="soft">Counts of test tiles, {seeds}.</p><div class="{side}">{figures}</div>'


def _by_class(scores: Scores) -> str:
    """The score of each class, in percent."""
    titles = []
    for name in scores["by_class"]:
        arm, _, metric = name.partition(" ")
        titles.append(f"{title(arm)}, {metric_title(metric)}")
    rows = []
    for number, name in enumerate(scores["classes"]):
        found = [values[number] for values in scores["by_class"].values()]
        tiles = scores["test_tiles"]
        rows.append((name, [Cell("–" if one is None else score_text(one, tiles), number=True) for one in found]))
    return f'<div class="card">{html.table(["", *titles], rows, [True] * len(titles))}</div>'


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
    crowded = "" if len(classes) <= SIDE_BY_SIDE else " crowded"
    return (
        f'<table class="confusion{crowded}"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>'
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
