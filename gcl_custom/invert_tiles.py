"""Stage: find the features of the training tiles once, where the generator has no encoder and descends to them.

They are a function of (seed, tile), so an interrupted stage goes on to the same ones. All that starts from a training
tile reads them: views, reconstructions, learned edits, and the partners that interpolation goes to.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from gcl_custom import plan
from gcl_custom.console import say
from gcl_custom.devices import Pieces
from gcl_custom.generator.edits import joined
from gcl_custom.generator.loading import draws, load_frozen
from gcl_custom.imagery import TileStore
from gcl_custom.latents import LatentWriter
from gcl_custom.runs import Run, Stage
from gcl_custom.sharing import following, joins, share

STAGE = "latents"


def run(run: Run) -> None:
    """Write ``latents.npy``, or go on where an earlier process stopped; on a machine that helps, its share of blocks.

    Raises:
        UserError: stale output, or a generator that is not there or does not fit.
    """
    stage = plan.latents(run)
    if run.machine:
        if joins(stage, stage.path):
            _share(run, stage)
        return
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.begin()
    writer = _share(run, stage)
    writer.finish()
    stage.finish(tiles=writer.count)
    say(f"{STAGE}: of {writer.count} tiles, in {stage.path}")


def _share(run: Run, stage: Stage) -> LatentWriter:
    writer = _writer(run, stage, TileStore(plan.tiles(run).path))
    share(run, stage, writer.pending, partial(_inverting, run, stage))
    return writer


def _writer(run: Run, stage: Stage, store: TileStore) -> LatentWriter:
    return LatentWriter(stage.path, stage.fingerprint, store.index("train"), run.recipe.views.batch)


@contextmanager
def _inverting(run: Run, stage: Stage) -> Iterator[Callable[[int], None]]:
    """What inverts the tiles of a block, in one of several processes."""
    store = TileStore(plan.tiles(run).path)
    generator, writer = load_frozen(run, store), _writer(run, stage, store)
    in_pieces = Pieces(run.recipe.views.batch, STAGE)

    def encode(tiles: torch.Tensor) -> object:
        return generator.encode(store.unit(store.read(tiles)), draws(run, tiles.to(generator.device)))

    with following(None if run.machine else stage, writer.count, STAGE, "tiles", lambda: writer.written) as follow:

        def invert(block: int) -> None:
            if not writer.has(block):
                writer.write(block, joined(in_pieces(encode, writer.tiles(block))))
            follow()

        yield invert
