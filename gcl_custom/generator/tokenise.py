"""Stage: tokenise the training and validation tiles once, in all ways that the domain's symmetry allows.

An interrupted stage goes on with the first block that is not on the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from jaxtyping import Int, UInt16
from torch import Tensor

from gcl_custom.arrays import BlockedArray
from gcl_custom.console import say
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.token_store import FILE, tokenised
from gcl_custom.imagery.symmetry import WAYS, turn
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.devices import autocast, pick_device
from gcl_custom.training.shared_blocks import Hands, each, following

BLOCKS = "blocks.npy"
"""Which blocks are on the disk."""
BLOCK = 64
"""Tiles of a block."""


def tokenise(run: Run) -> None:
    """Write ``tokens.npy``: of the training and validation tiles, ascending by their number, in each way (n s h w),
    uint16.

    Raises:
        UserError: stale output, or a tokenizer that is missing or does not fit.
    """
    stage = plan.tokens(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    tiles, ways, tokenizer = tokenised(store), WAYS[run.recipe.token_symmetry], _loaded(run, store)
    grid = _tokens(run, store, tokenizer, tiles[:1]).shape[2:]
    path, marks = stage.path / FILE, stage.path / BLOCKS
    BlockedArray.begin(path, marks, np.uint16, (len(tiles), ways, *grid), BLOCK)
    # With several processes each process loads a tokenizer of its own.
    known = tokenizer if run.recipe.hardware.processes == 1 else None
    each(partial(_writing, run, stage, known), _blocks(stage).pending, run.recipe.hardware)
    stage.finish(tiles=len(tiles), ways=ways)


def _blocks(stage: Stage) -> BlockedArray:
    return BlockedArray(stage.path / FILE, stage.path / BLOCKS, BLOCK, stage.remedy)


def _loaded(run: Run, store: TileStore) -> AnyTokenizer:
    return load_tokenizer(run, store).to(pick_device(run.recipe.hardware)).eval()


@torch.inference_mode()
def _tokens(
    run: Run, store: TileStore, tokenizer: AnyTokenizer, tiles: Int[Tensor, " b"]
) -> UInt16[np.ndarray, "b s h w"]:
    """The tokens of tiles in each way."""
    hardware = run.recipe.hardware
    device = pick_device(hardware)
    upright, found = store.unit(store.read(tiles).to(device)), []
    for way in range(WAYS[run.recipe.token_symmetry]):
        with autocast(hardware, device):
            tokens = tokenizer.tokenise(turn(upright, torch.full((len(tiles),), way, device=device)))
        found.append(tokens.cpu().numpy().astype(np.uint16))
    return np.stack(found, axis=1)


@contextmanager
def _writing(run: Run, stage: Stage, known: AnyTokenizer | None) -> Iterator[Hands]:
    """Gives what makes and writes the tokens of a block, in one of several processes."""
    store = TileStore(plan.tiles(run).path)
    tiles, tokenizer, blocks = tokenised(store), known or _loaded(run, store), _blocks(stage)
    with following(stage, len(tiles), stage.name, "tiles", lambda: blocks.written) as follow:

        def make(number: int) -> np.ndarray:
            return _tokens(run, store, tokenizer, tiles[blocks.within(number)])

        def keep(number: int, tokens: np.ndarray) -> None:
            blocks.keep(number, tokens)
            follow()

        yield Hands(make, keep)
