"""Stage: what pretraining predicts of a training tile from its views: what a frozen network sees, or a bag of words.

They are made once, of whole and upright tiles, enlarged to what the network knows. An interrupted stage goes on with
the first block that is not on the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gcl_custom.arrays import BlockedArray, save_array
from gcl_custom.console import say
from gcl_custom.counted import counted
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.own.as_backbone import TokenHistogram
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining import start
from gcl_custom.pretraining.backbones import Enlarged
from gcl_custom.pretraining.targets import FEATURES, TILES
from gcl_custom.pretraining.word_targets import patch_words
from gcl_custom.randomness import derive
from gcl_custom.recipe.pretraining import FeatureTargetsSettings, TokenTargetsSettings, WordTargetsSettings
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
        UserError: the weights of the network are missing or do not fit, or the tokenizer is not finished.
    """
    stage = plan.targets(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    tiles = store.index("train")
    network, width = _network(run, store)
    save_array(stage.path / TILES, tiles.numpy())
    BlockedArray.begin(stage.path / FEATURES, stage.path / BLOCKS, np.float32, (len(tiles), width), BLOCK)
    # With several processes each process loads a network of its own.
    known = network if run.recipe.hardware.processes == 1 else None
    each(partial(_writing, run, stage, known), _blocks(stage).pending, run.recipe.hardware)
    stage.finish(width=width)
    say(f"{stage.name}: {width} features of each of {counted(len(tiles), 'tile')}")


def _blocks(stage: Stage) -> BlockedArray:
    return BlockedArray(stage.path / FEATURES, stage.path / BLOCKS, BLOCK, stage.remedy)


def _network(run: Run, store: TileStore) -> tuple[nn.Module, int]:
    """What gives the targets of tiles, and their width. A frozen network enlarges the tiles itself.

    Tokens are not read from their store: it holds each tile in all its ways, and no other stage of a raw pair needs it.
    """
    targets = run.recipe.pretrain.targets
    if isinstance(targets, TokenTargetsSettings):
        tokenizer = load_tokenizer(run, store)
        return TokenHistogram(tokenizer).eval(), tokenizer.codes
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
    blocks = _blocks(stage)
    with following(stage, len(tiles), stage.name, "tiles", lambda: blocks.written) as follow:

        @torch.inference_mode()
        def make(number: int) -> np.ndarray:
            some = store.unit(store.read(tiles[blocks.within(number)]).to(device))
            with autocast(hardware, device):
                found: Tensor = network(some.contiguous(memory_format=torch.channels_last))
            return found.float().cpu().numpy()

        def keep(number: int, found: np.ndarray) -> None:
            blocks.keep(number, found)
            follow()

        yield Hands(make, keep)
