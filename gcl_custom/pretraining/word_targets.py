"""Words of a store's patches: a floor of every comparison, and targets for imagery that no public network knows."""

import torch

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.tile_features import PatchWords, drawn_patches

FIT_TILES, FIT_PATCHES = 1000, 20
"""Training tiles that the words are found on, and patches of each."""
READ = 100
"""Tiles whose patches are drawn at a time."""


def patch_words(store: TileStore, words: int, seed: int) -> tuple[PatchWords, int]:
    """The network without parameters that maps tiles to their words and statistics, and the number of these."""
    rng = torch.Generator().manual_seed(seed)
    tiles = store.sample(store.index("train"), FIT_TILES)
    drawn = [drawn_patches(store.unit(store.read(part)), FIT_PATCHES, rng) for part in torch.split(tiles, READ)]
    network = PatchWords(torch.cat(drawn), rng, words)
    return network, len(network.words) + 4 * store.bands
