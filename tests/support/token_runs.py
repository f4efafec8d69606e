"""Runs whose generator of tokens is finished: random tiles, untrained networks."""

from pathlib import Path

import torch
from stored_tiles import tile_store

from gcl_custom.generator import tokenise
from gcl_custom.generator.loading import load_unedited
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.vqgan_latent import VqganLatent
from gcl_custom.imagery.tile_store import TileStore
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


SETTINGS = RECIPE.model_copy(update={"views": RECIPE.views.model_copy(update={"batch": 4, "per_tile": 2})})


def with_generator(folder: Path) -> Run:
    """A run with an untrained transformer, too."""
    with_tokenizer(folder)
    run = Run(folder, SETTINGS)
    stage = plan.maskgit(run)
    stage.begin()
    torch.manual_seed(1)
    save_weights(stage.path / "maskgit.safetensors", MaskGIT(8, 4, SETTINGS.tokens.maskgit))
    stage.finish()
    return run


def edited_latent(folder: Path, strategy: object) -> tuple[Run, TileStore, VqganLatent]:
    """The run in a folder with an edit of latents, its tiles, and its generator before the edit."""
    run = Run(folder, RECIPE.model_copy(update={"views": ViewsSettings(strategy=strategy)}))
    store = TileStore(plan.tiles(run).path)
    generator = load_unedited(run, store)
    assert isinstance(generator, VqganLatent)
    return run, store, generator


def continued(epochs: int, weights: Path) -> Recipe:
    """The recipe whose transformer goes on from weights."""
    maskgit = RECIPE.tokens.maskgit.model_copy(update={"epochs": epochs, "weights": str(weights)})
    return RECIPE.model_copy(update={"generator": RECIPE.tokens.model_copy(update={"maskgit": maskgit})})


def with_views(folder: Path, **views: object) -> Run:
    """A run with a generator, and these settings of its views."""
    run = with_generator(folder)
    run.recipe = run.recipe.model_copy(update={"views": run.recipe.views.model_copy(update=views)})
    return run
