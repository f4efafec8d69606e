"""The nearest training tiles of a few test tiles, by the backbone of the recipe's own arm and first seed.

They show without labels what a backbone holds alike. A report embeds them.
"""

from dataclasses import replace
from typing import Any

import torch.nn.functional as F

from gcl_custom.evaluation.inference import infer
from gcl_custom.files import write_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

QUERIES, NEAREST = 6, 5
BANK = 2000
"""Training tiles to choose from, at most, spread evenly over all."""
KEPT = "neighbours.json"


def stage_of(run: Run) -> Stage:
    """The stage, which is made anew where the backbone has changed: it takes seconds."""
    seed = run.recipe.compare.seeds[0]
    settings: dict[str, Any] = {
        "queries": QUERIES,
        "nearest": NEAREST,
        "bank": BANK,
        "backbone": [run.recipe.pretrain.backbone, run.recipe.pretrain.stem],
        "precision": run.recipe.hardware.precision,
    }
    inputs = [plan.tiles(run), plan.pretrain(run, "gcl", seed)]
    return replace(run.stage(f"neighbours/gcl-{seed}", settings, inputs, "gcl-custom report"), redo=True)


def find(run: Run) -> None:
    """Write ``neighbours.json``, if the backbone is there: for each test tile its nearest training tiles by cosine.

    Raises:
        UserError: the weights cannot be read.
    """
    stage, pretrained = stage_of(run), plan.pretrain(run, "gcl", run.recipe.compare.seeds[0])
    if stage.done or not pretrained.done:
        return
    from gcl_custom.pretraining import trained_backbone  # here, since timm takes seconds to import

    if not (pretrained.path / trained_backbone.BACKBONE).is_file():
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    queries, bank = store.sample(store.index("test"), QUERIES), store.sample(store.index("train"), BANK)
    network, _ = trained_backbone.network_of(run, pretrained, store.bands)
    ours, theirs = (F.normalize(infer(network, store, tiles, run.recipe.hardware), dim=1) for tiles in (queries, bank))
    similarity, places = (ours @ theirs.T).topk(min(NEAREST, len(bank)), dim=1)
    found = [
        {"tile": tile, "nearest": bank[near.cpu()].tolist(), "similarity": [round(s, 3) for s in like.tolist()]}
        for tile, near, like in zip(queries.tolist(), places, similarity, strict=True)
    ]
    write_json(stage.path / KEPT, found)
    stage.finish()
