"""Stage: caption the training and validation tiles once, for a generator that reads captions."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from jaxtyping import Int
from torch import Tensor

from gcl_custom.console import say
from gcl_custom.counted import counted
from gcl_custom.generator.public.captions import Captioner, CaptionFile
from gcl_custom.generator.token_store import tokenised
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import ImageToImageSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.devices import pick_device, precision_of
from gcl_custom.training.shared_blocks import Hands, each, following

STAGE = "captions"
SHOWN = 3


def caption_tiles(run: Run) -> None:
    """Write ``captions.jsonl``, or go on where an earlier process stopped.

    Raises:
        UserError: stale output, tiles of other bands than three, or a model that cannot be read.
    """
    stage = plan.captions(run)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.begin()
    tiles = tokenised(TileStore(plan.tiles(run).path))
    missing = _file(stage).missing(tiles)
    blocks = missing.split(run.recipe.views.batch) if len(missing) else ()
    each(partial(_captioning, run, stage, len(tiles), blocks), range(len(blocks)), run.recipe.hardware)
    captions = _file(stage).read(tiles)
    stage.finish(tiles=len(tiles), distinct=len(set(captions)))
    say(
        f"{STAGE}: {len(set(captions)):,} different ones of {counted(len(tiles), 'tile')}, such as "
        f"{'; '.join(captions[:SHOWN])}"
    )


def _file(stage: Stage) -> CaptionFile:
    return CaptionFile(stage.path / plan.CAPTIONS)


@contextmanager
def _captioning(run: Run, stage: Stage, total: int, blocks: tuple[Int[Tensor, " _"], ...]) -> Iterator[Hands]:
    """Gives what captions the tiles of a block, and writes their lines, in one of several processes."""
    settings, hardware = run.recipe.generator, run.recipe.hardware
    assert isinstance(settings, ImageToImageSettings)
    assert settings.captions is not None
    store, file, device = TileStore(plan.tiles(run).path), _file(stage), pick_device(hardware)
    captioner = Captioner(
        settings.captions,
        "generator.captions",
        bands=store.bands,
        device=device,
        precision=precision_of(hardware, device),
    )
    with following(stage, total, STAGE, "tiles", lambda: len(file)) as follow:

        def make(number: int) -> list[str]:
            return captioner.captions(store.unit(store.read(blocks[number])))

        def keep(number: int, captions: list[str]) -> None:
            file.append(blocks[number], captions)
            follow()

        yield Hands(make, keep)
