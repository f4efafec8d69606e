"""The tokenizer and the generator that a run's stages have finished, with their weights."""

from gcl_custom import plan
from gcl_custom.devices import pick_device
from gcl_custom.generator.inpainting import Generator
from gcl_custom.generator.maskgit import MaskGIT
from gcl_custom.generator.vqgan import VQGAN
from gcl_custom.imagery import TileStore
from gcl_custom.runs import Run
from gcl_custom.weights import load_weights


def load_tokenizer(run: Run, store: TileStore) -> VQGAN:
    """The finished tokenizer of a run.

    Raises:
        UserError: its weights are missing or do not fit the settings.
    """
    tokenizer = VQGAN(store.bands, run.recipe.generator.tokenizer)
    load_weights(plan.tokenizer(run).path / "vqgan.safetensors", tokenizer)
    return tokenizer


def load_generator(run: Run, store: TileStore) -> Generator:
    """The finished generator of a run.

    Raises:
        UserError: its weights are missing or do not fit the settings.
    """
    settings = run.recipe.generator
    maskgit = MaskGIT(settings.tokenizer.codes, store.size // settings.tokenizer.pixels_per_token, settings.maskgit)
    load_weights(plan.maskgit(run).path / "maskgit.safetensors", maskgit)
    hardware = run.recipe.hardware
    return Generator(load_tokenizer(run, store), maskgit, run.recipe.views, hardware, pick_device(hardware))
