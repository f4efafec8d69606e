"""Stage: caption the training and validation tiles once, for a generator that reads captions."""

import torch

from gcl_custom.console import progress, say
from gcl_custom.counted import counted
from gcl_custom.generator.public.captions import Captioner, CaptionFile
from gcl_custom.generator.token_store import tokenised
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import ImageToImageSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.devices import pick_device, precision_of

STAGE = "captions"
SHOWN = 3


def caption_tiles(run: Run) -> None:
    """Write ``captions.jsonl``, or go on where an earlier process stopped.

    Raises:
        UserError: stale output, tiles of other bands than three, or a model that cannot be read.
    """
    stage, settings = plan.captions(run), run.recipe.generator
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    assert isinstance(settings, ImageToImageSettings)
    assert settings.captions is not None
    stage.begin()
    store, file = TileStore(plan.tiles(run).path), CaptionFile(stage.path / plan.CAPTIONS)
    device, tiles = pick_device(run.recipe.hardware), tokenised(store)
    precision = precision_of(run.recipe.hardware, device)
    captioner = Captioner(
        settings.captions, "generator.captions", bands=store.bands, device=device, precision=precision
    )
    missing = file.missing(tiles)
    with progress(len(tiles), STAGE) as ticker:
        ticker.skip(len(tiles) - len(missing))
        for some in torch.split(missing, run.recipe.views.batch):
            file.append(some, captioner.captions(store.unit(store.read(some))))
            stage.tick()
            ticker.advance(len(some))
    captions = file.read(tiles)
    stage.finish(tiles=len(tiles), distinct=len(set(captions)))
    say(
        f"{STAGE}: {len(set(captions)):,} different ones of {counted(len(tiles), 'tile')}, such as "
        f"{'; '.join(captions[:SHOWN])}"
    )
