"""Stage: what pretraining predicts of each training tile from views of it: a frozen network's features, or its words.

They are made once, of whole and upright tiles, enlarged to what the network knows. An interrupted stage goes on with
the first block that is not on the disk.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gcl_custom.arrays import new_array, read_array, save_array, written_array
from gcl_custom.console import say
from gcl_custom.counted import counted
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import start
from gcl_custom.pretraining.backbones import Enlarged
from gcl_custom.pretraining.targets import FEATURES, MADE_BY, TILES
from gcl_custom.pretraining.word_targets import patch_words
from gcl_custom.randomness import derive
from gcl_custom.recipe.pretraining import FeatureTargetsSettings, WordTargetsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.shared_blocks import Hands, each, following

BLOCKS = "blocks.npy"
"""Which blocks are on the disk."""
BLOCK = 64
"""Tiles of a block."""


def make_targets(run: Run) -> None:
    """Write the features of every training tile.

    Raises:
        UserError: the weights of the network are missing or do not fit.
    """
    stage = plan.targets(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    tiles = store.index("train")
    network, width = _network(run, store)
    if not (stage.path / BLOCKS).is_file():
        save_array(stage.path / TILES, tiles.numpy())
        new_array(stage.path / FEATURES, np.float32, (len(tiles), width))
        save_array(stage.path / BLOCKS, np.zeros(math.ceil(len(tiles) / BLOCK), dtype=bool))
    pending = np.flatnonzero(~read_array(stage.path / BLOCKS, MADE_BY))
    # With several processes each process loads a network of its own.
    known = network if run.recipe.hardware.processes == 1 else None
    each(partial(_writing, run, stage, known), pending.tolist(), run.recipe.hardware)
    stage.finish(width=width)
    say(f"{stage.name}: {width} features of each of {counted(len(tiles), 'tile')}")


def _network(run: Run, store: TileStore) -> tuple[nn.Module, int]:
    """What gives the targets of tiles, and their width. A frozen network enlarges the tiles itself."""
    targets = run.recipe.pretrain.targets
    if isinstance(targets, WordTargetsSettings):
        return patch_words(store, targets.words, derive(run.recipe.seed, "targets"))
    assert isinstance(targets, FeatureTargetsSettings)
    network, width = start.begun(run.recipe.pretrain.taught_by, store)
    return (Enlarged(network, targets.size) if targets.size else network).eval(), width


@contextmanager
def _writing(run: Run, stage: Stage, known: nn.Module | None) -> Iterator[Hands]:
    """Gives what makes and writes the features of a block, in one of several processes."""
    hardware = run.recipe.hardware
    store, device = TileStore(plan.tiles(run).path), pick_device(hardware)
    tiles, network = store.index("train"), (known or _network(run, store)[0]).to(device)
    features, blocks = (written_array(stage.path / name, MADE_BY) for name in (FEATURES, BLOCKS))

    def written() -> int:
        return min(len(tiles), BLOCK * int(blocks.sum()))

    with following(stage, len(tiles), stage.name, "tiles", written) as follow:

        @torch.inference_mode()
        def make(block: int) -> np.ndarray:
            some = store.unit(store.read(tiles[block * BLOCK : (block + 1) * BLOCK]).to(device))
            with autocast(hardware, device):
                found: Tensor = network(some.contiguous(memory_format=torch.channels_last))
            return found.float().cpu().numpy()

        def keep(block: int, found: np.ndarray) -> None:
            features[block * BLOCK : (block + 1) * BLOCK] = found
            features.flush()
            blocks[block] = True
            blocks.flush()
            follow()

        yield Hands(make, keep)
