"""The representations of all tiles of a run by one of its backbones. They are computed once and kept with the run.

n  tiles of the store, in its order     d  width of the backbone
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gcl_custom.arrays import new_array, read_array, require_shape
from gcl_custom.console import progress
from gcl_custom.evaluation.inference import INFERENCE_BATCH
from gcl_custom.export.backbone_of_run import TrainedBackbone
from gcl_custom.files import locked
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage

KEPT = "representations.npy"
REMEDY = "gcl-custom similar --to TILE --out PICTURE.png"


def stage_of(run: Run, arm: Any, seed: int) -> Stage:
    """The stage, which is made anew where the backbone or the tiles have changed."""
    inputs = [plan.tiles(run), plan.pretrain(run, arm, seed)]
    settings = {"backbone": [run.recipe.pretrain.backbone, run.recipe.pretrain.stem]}
    return replace(run.stage(f"representations/{arm}-{seed}", settings, inputs, REMEDY), redo=True)


def representations_of(known: TrainedBackbone) -> Float[np.ndarray, "n d"]:
    """The representations, mapped into memory.

    Raises:
        UserError: the file is damaged.
    """
    stage, store = stage_of(known.run, known.arm, known.seed), known.store
    with locked(stage.path.parent, wait=True):
        if not stage.done:
            stage.begin()
            kept = new_array(stage.path / KEPT, np.float32, (len(store), known.width))
            with progress(len(store), "representations") as bar:
                for part in torch.split(torch.arange(len(store)), INFERENCE_BATCH):
                    kept[part.numpy()] = known.represent(store.read(part))
                    bar.advance(len(part))
            kept.flush()
            stage.finish()
    found = read_array(stage.path / KEPT, REMEDY)
    require_shape(stage.path / KEPT, found, (len(store), known.width), REMEDY)
    return found
