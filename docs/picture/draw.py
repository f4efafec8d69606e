"""Draws the picture of the README from a finished generator: tiles, their hidden squares, their generative views.

python docs/picture/draw.py runs/quickstart docs/tile-to-view.png
"""

import sys
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")

from matplotlib.figure import Figure

from gcl_custom.generator.encoding import draws, encoder
from gcl_custom.generator.loading import load_generator
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.runs import plan
from gcl_custom.runs.run import kept_run

COLUMNS = 7
TITLES = ("tile", "hidden: p = 0.25", "generative view")


def draw(folder: Path, out: Path) -> None:
    """Tiles spread evenly over the training tiles, a column each."""
    run = kept_run(folder)
    store = TileStore(plan.tiles(run).path)
    tiles = spread(store.index("train"), COLUMNS)
    generator, rng = load_generator(run, store), draws(run, tiles)
    with torch.inference_mode():
        features = encoder(run, store, generator)(tiles, rng)
        plain, _, hidden, views = generator.shown(store.unit(store.read(tiles)), features, rng)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained", facecolor="white")
    grid = figure.subplots(3, COLUMNS)
    for row, (title, pictures) in enumerate(zip(TITLES, (plain, hidden, views), strict=True)):
        for axes, picture in zip(grid[row], pictures, strict=True):
            axes.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            for edge in axes.spines.values():
                edge.set_visible(False)
        grid[row, 0].set_ylabel(title, fontsize=11)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
