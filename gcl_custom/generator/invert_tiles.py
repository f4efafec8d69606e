"""Stage: invert the training tiles once, for a generator without an encoder, which finds features by descent.

The features are a function of (seed, tile), so an interrupted stage ends with the same ones. Everything that starts
from a training tile reads them: views, reconstructions, learned edits, and the partners of interpolation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from gcl_custom.console import say
from gcl_custom.counted import counted
from gcl_custom.generator.encoding import draws, joined
from gcl_custom.generator.latent_store import LatentWriter, rows_of
from gcl_custom.generator.loading import load_unedited
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.devices import Pieces
from gcl_custom.training.shared_blocks import Hands, each, following

STAGE = "latents"


def invert_tiles(run: Run) -> None:
    """Write ``latents.npy``, or go on where an earlier process stopped.

    Raises:
        UserError: stale output, or a generator that is not there or does not fit.
    """
    stage = plan.latents(run)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.begin()
    writer = _writer(run, stage, TileStore(plan.tiles(run).path))
    each(partial(_inverting, run, stage), writer.pending, run.recipe.hardware)
    writer.finish()
    stage.finish(tiles=writer.count)
    say(f"{STAGE}: of {counted(writer.count, 'tile')}, in {stage.path}")


def _writer(run: Run, stage: Stage, store: TileStore) -> LatentWriter:
    return LatentWriter(stage.path, store.index("train"), run.recipe.views.batch)


@contextmanager
def _inverting(run: Run, stage: Stage) -> Iterator[Hands]:
    """What inverts the tiles of a block, and keeps their features, in one of several processes."""
    store = TileStore(plan.tiles(run).path)
    generator, writer = load_unedited(run, store), _writer(run, stage, store)
    in_pieces = Pieces(run.recipe.views.batch, STAGE)

    def encode(tiles: torch.Tensor) -> object:
        return generator.encode(store.unit(store.read(tiles)), draws(run, tiles.to(generator.device)))

    with following(stage, writer.count, STAGE, "tiles", lambda: writer.written) as follow:

        def invert(block: int) -> np.ndarray:
            return rows_of(joined(in_pieces(encode, writer.tiles(block))))

        def keep(block: int, rows: np.ndarray) -> None:
            writer.write(block, rows)
            follow()

        yield Hands(invert, keep)
