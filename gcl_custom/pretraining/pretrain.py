"""Stage: contrastive pretraining on pairs of views."""

from typing import Any

import torch

from gcl_custom import console
from gcl_custom.errors import UserError
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.backbones import within
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.description import Description
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.pretraining.trained_backbone import BACKBONE
from gcl_custom.randomness import derive
from gcl_custom.recipe.evaluation import Arm
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batches
from gcl_custom.training.loop import fit
from gcl_custom.weights.state_dicts import save_weights


def pretrain(run: Run, arm: Arm, seed: int) -> None:
    """Pretrain the backbone of one arm of the comparison. The arm gcl is the recipe as it stands.

    Writes ``backbone.safetensors``: the backbone alone, in the naming of timm, and in the file's metadata what it is
    and what it takes; see ``Description``.

    Raises:
        UserError: there is one training tile.
    """
    stage = plan.pretrain(run, arm, seed)
    if stage.done:
        console.say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    settings = arms.arm_settings(run.recipe, arm)
    store, reader = TileStore(plan.tiles(run).path), Reader(run, settings)
    processes = run.recipe.hardware.processes
    batches = Batches(store.index("train"), settings.tiles_per_step, seed, reader, store, processes)
    if batches.batch < 2:
        raise UserError(
            f"{store.path} has one training tile, and pretraining compares tiles with each other. It needs two at the "
            f"least, and hundreds to learn anything: add tiles or change data.split"
        )
    torch.manual_seed(derive(seed, "pretrain", "initial weights"))
    module = Contrastive(store, reader, settings, settings.epochs * batches.steps_per_epoch, batches.batch, seed)
    history = fit(module, batches, stage, run.recipe.hardware, settings.epochs, seed)
    kept = within(module.method.kept(module.backbone))
    about = Description.of(run.recipe, store, kept, module.width)
    save_weights(stage.path / BACKBONE, kept, about.metadata())
    facts: dict[str, Any] = {name: value for name, value in history[-1].items() if name != "epoch"}
    left_out = 1 - reader.usable(batches.index, 1).double().mean().item()
    if left_out:
        facts["views_left_out"] = left_out
    stage.finish(parameters=sum(weight.numel() for weight in module.backbone.parameters()), **facts)
