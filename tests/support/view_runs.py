"""Runs whose generator is finished, before any view."""

from pathlib import Path

import torch
from token_runs import RECIPE, with_tokenizer

from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import save_weights

SETTINGS = RECIPE.model_copy(update={"views": RECIPE.views.model_copy(update={"batch": 4, "per_tile": 2})})


def with_generator(folder: Path) -> Run:
    with_tokenizer(folder)
    run = Run(folder, SETTINGS)
    stage = plan.maskgit(run)
    stage.begin()
    torch.manual_seed(1)
    save_weights(stage.path / "maskgit.safetensors", MaskGIT(8, 4, SETTINGS.tokens.maskgit))
    stage.finish()
    return run
