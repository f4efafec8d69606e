"""The generator that a run's stages have finished, with its weights, and what it encodes the tiles of a store to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gcl_custom import plan
from gcl_custom import recipe_generator as recipes
from gcl_custom.devices import autocast, pick_device
from gcl_custom.generator import networks
from gcl_custom.generator.networks import AnyTokenizer
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.verbs import Generator
from gcl_custom.imagery import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.runs import Run
from gcl_custom.tokens import Tokens

WHERE = "generator.model"
Encode = Callable[[Int[Tensor, " b"], Randomness], Any]
"""Numbers of tiles -> their features."""


def load_tokenizer(run: Run, store: TileStore) -> AnyTokenizer:
    """The finished tokenizer of a run.

    Raises:
        UserError: its weights are missing or do not fit the settings.
    """
    return networks.tokenizer(run.recipe.tokens.tokenizer, store.bands, plan.tokenizer(run).path / plan.TOKENIZER)


def load_token_generator(run: Run, store: TileStore) -> TokenGenerator:
    """The finished generator of a run that in-paints tokens; raises what ``load_tokenizer`` raises."""
    settings, hardware, tokenizer = run.recipe.tokens, run.recipe.hardware, load_tokenizer(run, store)
    grid = store.size // settings.tokenizer.pixels_per_token
    maskgit = networks.transformer(settings.maskgit, tokenizer.codes, grid, plan.maskgit(run).path / plan.MASKGIT)
    return TokenGenerator(tokenizer, maskgit, run.recipe.views, hardware, pick_device(hardware))


def load_generator(run: Run, store: TileStore) -> Generator:
    """The finished generator of a run, of whatever kind.

    Raises:
        UserError: its weights are missing or do not fit the settings.
    """
    recipe, device = run.recipe, pick_device(run.recipe.hardware)
    settings = recipe.generator
    match settings:
        case recipes.TokenGenerator():
            return load_token_generator(run, store)
        case recipes.ImageToImage():
            from gcl_custom.generator.captions import CaptionFile
            from gcl_custom.generator.diffusion import ImageToImage

            captions = CaptionFile(plan.captions(run).path / plan.CAPTIONS) if settings.captions else None
            return ImageToImage(
                settings.model, WHERE, bands=store.bands, side=store.size, steps=settings.steps,
                strength=settings.strength, guidance=settings.guidance, captions=captions, device=device,
            )  # fmt: skip
        case recipes.Unclip():
            from gcl_custom.generator.unclip import Unclip

            return Unclip(
                settings.model, WHERE, bands=store.bands, side=store.size, steps=settings.steps,
                noise_level=settings.noise_level, guidance=settings.guidance, device=device,
            )  # fmt: skip
        case _:
            raise NotImplementedError


def encoder(run: Run, store: TileStore, generator: Generator) -> Encode:
    """What views of tiles start from: stored tokens where there are some, or else the tiles, encoded.

    Several views of the same tiles share what was encoded, unless each view lays the tile at another place.
    """
    strategy = run.recipe.views.strategy
    if run.recipe.inpaints and not (strategy and strategy.name == "outpainting"):
        stored = Tokens(plan.tokens(run).path, store)
        return lambda tiles, _: stored.read(tiles)[:, 0].to(generator.device)
    kept: list[tuple[Tensor, Any]] = []

    def encode(tiles: Int[Tensor, " b"], rng: Randomness) -> Any:
        if run.recipe.inpaints:
            return generator.encode(store.unit(store.read(tiles)), rng)
        if not kept or not torch.equal(kept[0][0], tiles):
            kept[:] = [(tiles, generator.encode(store.unit(store.read(tiles)), replace(rng, step=0)))]
        return kept[0][1]

    return encode


def reconstruct(run: Run, store: TileStore) -> Callable[[Int[Tensor, " b"]], Float[Tensor, "b c h w"]]:
    """Numbers of tiles -> what they become when they are encoded and decoded only."""
    device, hardware = pick_device(run.recipe.hardware), run.recipe.hardware
    if isinstance(run.recipe.generator, recipes.TokenGenerator):
        tokenizer, stored = load_tokenizer(run, store).to(device).eval(), Tokens(plan.tokens(run).path, store)

        @torch.inference_mode()
        def decode(tiles: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
            with autocast(hardware, device):
                return tokenizer.decode_tokens(stored.read(tiles)[:, 0].to(device))

        return decode
    generator = load_generator(run, store)
    encode = encoder(run, store, generator)
    return lambda tiles: generator.decode(encode(tiles, Randomness(run.recipe.seed, "views", 0, tiles.to(device))))
