"""The floors of a comparison: what probes reach on features of tiles that need no network.

They depend on tiles alone, so each is computed once and stands beside every seed.
"""

from typing import Any

from torch import nn

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.pixel_features import RADII, PixelFeatures
from gcl_custom.measures.tile_features import POSITIONS, SIDE, WORDS, BandStatistics
from gcl_custom.pretraining.word_targets import FIT_PATCHES, FIT_TILES, patch_words
from gcl_custom.randomness import derive

SETTINGS: dict[str, dict[str, Any]] = {
    "statistics": {"floor": "statistics"},
    "patches": {
        "floor": "patches",
        "side": SIDE,
        "words": WORDS,
        "positions": POSITIONS,
        "of": [FIT_TILES, FIT_PATCHES],
    },
    "pixels": {"floor": "pixels"},
    "surroundings": {"floor": "surroundings", "radii": list(RADII)},
}
"""Floor -> what it depends on, beside tiles and seed."""


def features(store: TileStore, name: str, seed: int) -> tuple[nn.Module, int]:
    """The network without parameters that maps tiles to a floor's features, and their number."""
    if name == "statistics":
        return BandStatistics(), 4 * store.bands
    if name in ("pixels", "surroundings"):
        radii = RADII if name == "surroundings" else ()
        return PixelFeatures(radii), (1 + 2 * len(radii)) * store.bands
    return patch_words(store, WORDS, derive(seed, "probes/patches"))
