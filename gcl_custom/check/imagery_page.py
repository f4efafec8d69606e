"""One self-contained page on the imagery: what check has found, with histograms and what each stage would take."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import numpy as np
from jaxtyping import Int

from gcl_custom import __version__
from gcl_custom.check.estimates import StageCost
from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.inventory import Inventory, form_cells
from gcl_custom.console import duration, in_bytes
from gcl_custom.counted import counted, either
from gcl_custom.imagery.source import Source
from gcl_custom.imagery.tile_store import SPLITS
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.reporting.html import Cell, table, text

MOST_FORMS = 40
"""Most forms of files in a table; the console shows fewer."""
LISTED = 200
"""Most files in a list."""
WIDTH, HEIGHT = 320, 110
"""Of a histogram, in the units of its picture."""


def imagery_page(recipe: Recipe, tiles: FoundTiles, costs: Sequence[StageCost], faults: Sequence[str]) -> str:
    """The page. It refers to no file or address outside itself, and every text from files is escaped.

    Args:
        faults: why the recipe would not run; none if it would.
    """
    found = tiles.inventory
    parts = [
        ("splits", "Classes and splits", _classes(tiles)),
        ("labels", "Shares of the labels", _shares(recipe, tiles)),
        ("files", "Files", _forms(found) if found else ""),
        ("values", "Values by band", _histograms(found) if found else ""),
        ("unusable", "Without a tile", _unusable(found) if found else ""),
        ("copies", "Copies", _copies(found) if found else ""),
        ("blank", "Blank tiles", _list([str(source) for source in found.blank]) if found else ""),
        ("cost", "Time, memory and disk", _costs(costs)),
    ]
    parts = [part for part in parts if part[2]]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in parts)
    sections = "".join(f'<section id="{anchor}"><h2>{title}</h2>{body}</section>\n' for anchor, title, body in parts)
    notices = "".join(f"<li>{escape(fault)}</li>" for fault in faults)
    notice = (
        f'<div class="notice"><p><strong>This would not run.</strong></p><ul>{notices}</ul></div>' if faults else ""
    )
    form, size = tiles.form, recipe.data.size
    head = (
        f"<header><p>Imagery · gcl-custom {escape(__version__)}</p><h1>{escape(recipe.data.root)}</h1>"
        f"<p>{counted(len(tiles.split), 'tile')} of {size} × {size} px, {counted(form.bands, 'band')} of "
        f"{escape(form.dtype)}</p></header>"
        f"{notice}<nav>{links}</nav>"
    )
    template = resources.files("gcl_custom.reporting").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(f"{recipe.data.root} – gcl-custom"), body=head + sections)


def _classes(tiles: FoundTiles) -> str:
    """Tiles of each class and split, with a bar for each class."""
    counts = {label: [tiles.count(split, label) for split in SPLITS] for label in (*range(len(tiles.classes)), -1)}
    most = max(1, *(sum(each) for each in counts.values()))
    rows = []
    for label, each in counts.items():
        if any(each):
            name = tiles.classes[label] if label >= 0 else "no label"
            bar = Cell(f'<span class="bar"><span style="width:{100 * sum(each) / most:.1f}%"></span></span>')
            rows.append((name, [*(text(f"{count:,}", number=True) for count in each), bar]))
    rows.append(("all", [*(text(f"{tiles.count(split):,}", number=True) for split in SPLITS), text("")]))
    return table(["tiles", *SPLITS, "share"], rows, [True, True, True, False])


def _shares(recipe: Recipe, tiles: FoundTiles) -> str:
    if not tiles.classes or not recipe.compare.fractions:
        return ""
    rows = []
    for fraction in recipe.compare.fractions:
        total = tiles.share(fraction)
        little = "fewer than two a class: such a share tells little" if total < 2 * len(tiles.classes) else ""
        rows.append((f"{fraction:g}", [text(f"{total:,}", number=True), text(little)]))
    return table(["share", "labelled training tiles", ""], rows, [True, False])


def _forms(found: Inventory) -> str:
    rows = []
    for form, count in found.forms[:MOST_FORMS]:
        kind, *others = form_cells(form)
        rows.append((kind, [*(text(cell) for cell in others), text(f"{count:,}", number=True)]))
    if not rows:
        return ""
    what = "window" if found.scenes else "file"
    read = f"{found.read:,} of {counted(found.of, what)} {either(found.read, 'was', 'were')} read."
    more = len(found.forms) - MOST_FORMS
    further = f" {counted(more, 'rarer form is', 'rarer forms are')} not shown." if more > 0 else ""
    columns = ["kind", "pixels", "bands", "type", "projection", "files"]
    return f'{table(columns, rows, [False] * 4 + [True])}<p class="note">{read}{further}</p>'


def _histograms(found: Inventory) -> str:
    figures = []
    for band, (low, high) in enumerate(found.ranges):
        counts, _ = found.histogram(band)
        caption = f"band {band + 1}: {low:,.5g} to {high:,.5g} (0.1 and 99.9 percentile)"
        figures.append(f"<figure>{_bars(counts)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="curves">{"".join(figures)}</div>'


def _bars(counts: Int[np.ndarray, " n"]) -> str:
    """A histogram as inline SVG."""
    width = WIDTH / len(counts)
    most = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{number * width:.1f}" y="{HEIGHT * (1 - count / most):.1f}" width="{width - 1:.1f}" '
        f'height="{HEIGHT * count / most:.1f}"/>'
        for number, count in enumerate(counts.tolist())
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" fill="#0072b2">{bars}</svg>'


def _unusable(found: Inventory) -> str:
    """Files, and scenes with what keeps some of their windows from being tiles."""
    windows: dict[tuple[str, str], list[tuple[Source, str]]] = defaultdict(list)
    rows = []
    for source, why in found.unusable.items():
        if source.window:
            windows[source.path, why.partition(" (")[0]].append((source, why))
        else:
            rows.append((str(source), [text(why)]))
    for (path, kind), alike in windows.items():
        source, why = alike[0]
        said = f"{counted(len(alike), 'window')}: {kind}" if len(alike) > 1 else why
        rows.append((path if len(alike) > 1 else str(source), [text(said)]))
    return table(["file", "why"], rows[:LISTED], [False]) + _more(len(rows)) if rows else ""


def _copies(found: Inventory) -> str:
    return _list([" = ".join(map(str, sources)) for sources in found.copies])


def _list(names: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(name)}</li>" for name in names[:LISTED])
    return f"<ul>{items}</ul>{_more(len(names))}" if names else ""


def _more(count: int) -> str:
    return f'<p class="note">{counted(count - LISTED, "more is", "more are")} not listed.</p>' if count > LISTED else ""


def _costs(costs: Sequence[StageCost]) -> str:
    rows = []
    for cost in costs:
        time = "not known" if cost.seconds is None else duration(cost.seconds)
        cells = [cost.what, time, in_bytes(cost.memory) if cost.memory else "", in_bytes(cost.disk)]
        rows.append((cost.name, [text(cells[0]), *(text(cell, number=True) for cell in cells[1:])]))
    return table(["stage", "what", "time", "memory", "disk"], rows, [False, True, True, True])
