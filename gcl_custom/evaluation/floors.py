"""The floors of a comparison: what probes reach on features of tiles that need no network.

They depend on tiles alone, so each is computed once and stands beside every seed.
"""

from typing import Any

import torch
from torch import nn

from gcl_custom.evaluation import scoring
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.measures.tile_features import POSITIONS, SIDE, WORDS, BandStatistics, PatchWords, drawn_patches
from gcl_custom.randomness import derive
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

FIT_TILES, FIT_PATCHES = 1000, 20
"""Training tiles that the words are found on, and patches of each."""
READ = 100
"""Tiles whose patches are drawn at a time."""
SETTINGS: dict[str, dict[str, Any]] = {
    "statistics": {"floor": "statistics"},
    "patches": {
        "floor": "patches",
        "side": SIDE,
        "words": WORDS,
        "positions": POSITIONS,
        "of": [FIT_TILES, FIT_PATCHES],
    },
}
"""Floor -> what it depends on, beside tiles and seed."""


def probe(run: Run, store: TileStore, name: str) -> dict[str, Any]:
    """The probes of a floor, as those of a backbone."""
    stage = plan.floor(run, name, SETTINGS[name])
    return scoring.probe(stage, store, run.recipe, lambda: features(store, name, run.recipe.seed))


def features(store: TileStore, name: str, seed: int) -> tuple[nn.Module, int]:
    """The network without parameters that maps tiles to a floor's features, and their number."""
    if name == "statistics":
        return BandStatistics(), 4 * store.bands
    rng = torch.Generator().manual_seed(derive(seed, "probes/patches"))
    tiles = spread(store.index("train"), FIT_TILES)
    drawn = [drawn_patches(store.unit(store.read(part)), FIT_PATCHES, rng) for part in torch.split(tiles, READ)]
    network = PatchWords(torch.cat(drawn), rng)
    return network, len(network.words) + 4 * store.bands
