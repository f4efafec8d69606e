"""Stage: tokenise the training and validation tiles once, in all ways that the domain's symmetry allows."""

from pathlib import Path

import numpy as np
import torch

from gcl_custom.arrays import new_array
from gcl_custom.console import progress, say
from gcl_custom.files import write_atomically
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.token_store import FILE, tokenised
from gcl_custom.imagery.symmetry import WAYS, turn
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.devices import autocast, pick_device


def tokenise(run: Run) -> None:
    """Write ``tokens.npy``.

    Raises:
        UserError: stale output, or a tokenizer that is missing or does not fit.
    """
    stage = plan.tokens(run)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    recipe, store = run.recipe, TileStore(plan.tiles(run).path)
    write_tokens(stage.path / FILE, store, load_tokenizer(run, store), WAYS[recipe.token_symmetry], recipe.hardware)
    stage.finish(tiles=len(tokenised(store)), ways=WAYS[recipe.token_symmetry])


@torch.inference_mode()
def write_tokens(
    path: Path, store: TileStore, tokenizer: AnyTokenizer, ways_of_tile: int, hardware: HardwareSettings
) -> None:
    """Tokens of the training and validation tiles, ascending by their number, in each way: (n, s, h, w), uint16."""
    device = pick_device(hardware)
    tokenizer = tokenizer.to(device).eval()
    numbers = tokenised(store)
    with write_atomically(path) as part, progress(len(numbers) * ways_of_tile, "tokens") as ticker:
        written: np.memmap | None = None
        for start, some in zip(range(0, len(numbers), 64), torch.split(numbers, 64), strict=True):
            tiles = store.unit(store.read(some).to(device))
            for way in range(ways_of_tile):
                with autocast(hardware, device):
                    tokens = tokenizer.tokenise(turn(tiles, torch.full((len(some),), way, device=device)))
                if written is None:
                    shape = (len(numbers), ways_of_tile, *tokens.shape[1:])
                    written = new_array(part, np.uint16, shape)
                written[start : start + len(some), way] = tokens.cpu().numpy()
                ticker.advance(len(some))
        assert written is not None
        written.flush()
