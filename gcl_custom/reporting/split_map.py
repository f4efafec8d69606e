"""The map of the splits: the places of tiles, coloured by split.

n  tiles
"""

import io
import math
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from gcl_custom.files import write_atomically
from gcl_custom.imagery.splits import told
from gcl_custom.imagery.tile_store import INDEX, SPLITS, TileStore
from gcl_custom.reporting import html
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

LOOKS = {"train": ("#8a9299", "."), "valid": ("#e69f00", "s"), "test": ("#0072b2", "^")}
"""Colour and mark of each split; the training tiles lie below the others."""
DOTS = 150
"""Dots an inch of the picture."""
SMALLEST, LARGEST, COVERED = 9.0, 60.0, 12_000.0
"""Area of a mark in square points, at least and at most; and that of all marks together, which few tiles share."""
LEAST, MOST = 0.5, 1.4
"""Height of a map as a share of its width, at least and at most."""


def section(run: Run) -> str:
    """What the report says of the splits: in words, in numbers, and as a map where places are known."""
    stage = plan.tiles(run)
    if not stage.done or not (stage.path / INDEX).is_file():
        return ""
    store = TileStore(stage.path)
    counts = ", ".join(f"{name} {int((store.split == code).sum()):,}" for code, name in enumerate(SPLITS))
    body = f"<p>{escape(told(run))}</p><p class='soft'>Tiles: {counts}.</p>"
    if store.places is None:
        return body
    picture = html.picture(drawn(store.places, store.split.numpy()), "map of the splits")
    return f'{body}<figure class="card">{picture}<figcaption>Places of the tiles, by split.</figcaption></figure>'


def save(places: Float[np.ndarray, "n 2"], split: Int[np.ndarray, " n"], path: Path) -> None:
    """Write the map as a PNG file.

    Raises:
        OSError: it cannot be written.
    """
    with write_atomically(path) as part:
        part.write_bytes(drawn(places, split))


def drawn(places: Float[np.ndarray, "n 2"], split: Int[np.ndarray, " n"]) -> bytes:
    """The map as a PNG picture: longitude and latitude in degrees, equally long in the middle of the map.

    Args:
        places: longitude and latitude; tiles without them are left out.
    """
    there = np.isfinite(places).all(axis=1)
    east, north = places[there].T
    middle = math.radians(float((north.min() + north.max()) / 2))
    stretch = 1 / max(0.05, math.cos(middle))
    wide, high = float(np.ptp(east)), stretch * float(np.ptp(north))
    share = min(MOST, max(LEAST, high / wide if wide else MOST))
    area = min(LARGEST, max(SMALLEST, COVERED / max(1, len(east))))
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        canvas = Figure(figsize=(7.0, 7.0 * share + 0.6), dpi=DOTS, layout="constrained")
        axes = canvas.add_subplot()
        for code, name in enumerate(SPLITS):
            colour, mark = LOOKS[name]
            own = split[there] == code
            label = f"{name}: {int(own.sum()):,}"
            axes.scatter(east[own], north[own], s=area, c=colour, marker=mark, linewidths=0, alpha=0.8, label=label)
        axes.set_aspect(stretch, adjustable="datalim")
        axes.set_xlabel("longitude, degrees")
        axes.set_ylabel("latitude, degrees")
        axes.ticklabel_format(useOffset=False)
        canvas.legend(
            loc="outside lower center", ncols=len(SPLITS), frameon=False, markerscale=2 * (SMALLEST / area) ** 0.5
        )
        file = io.BytesIO()
        canvas.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()
