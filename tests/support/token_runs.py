"""Runs whose tiles, tokenizer and tokens are finished."""

from pathlib import Path

import torch
from noise_tiles import tile_store

from gcl_custom.generator import tokenise
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.recipe.generator import MaskGITSettings, TokenGeneratorSettings, TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import save_weights

RECIPE = Recipe(
    name="r",
    data=DataSettings(root="none", size=16, symmetry="flip"),
    generator=TokenGeneratorSettings(
        tokenizer=TokenizerSettings(codes=8, code_width=4, channels=16, blocks=1, pixels_per_token=4),
        maskgit=MaskGITSettings(epochs=6, batch=5, width=32, depth=1, heads=2, learning_rate=1e-2),
    ),
    views=ViewsSettings(decoding_steps=2),
    hardware=HardwareSettings(accelerator="cpu", precision="fp32", checkpoint_minutes=1e-9),
)


def with_tokenizer(folder: Path, recipe: Recipe = RECIPE) -> Run:
    """A run whose tiles and tokenizer are finished: random tiles, an untrained tokenizer."""
    run = Run(folder, recipe)
    for stage in (plan.tiles(run), plan.tokenizer(run)):
        if stage.name == "tiles":
            tile_store(stage.path)
        stage.begin()
        if stage.name == "tokenizer":
            torch.manual_seed(0)
            save_weights(stage.path / "vqgan.safetensors", VQGAN(2, RECIPE.tokens.tokenizer))
        stage.finish(content="same")
    tokenise.tokenise(run)
    return run
