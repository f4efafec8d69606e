"""Builds the networks of a token generator, own or public, by the recipe's choice.

The module of a public network is imported when it is chosen. All tokenizers have the methods of the own VQGAN, and all
transformers have those of the own MaskGIT.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from gcl_custom.errors import UserError
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.recipe.generator import (
    AnyMaskGITSettings,
    AnyTokenizerSettings,
    MaskGITSettings,
    PublicMaskGITSettings,
    PublicTokenizerSettings,
    TokenizerSettings,
)
from gcl_custom.weights.state_dicts import load_weights

if TYPE_CHECKING:
    from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT
    from gcl_custom.generator.public.llamagen import LlamaGenTokenizer
    from gcl_custom.generator.public.mage import MageTransformer
    from gcl_custom.generator.public.mage_tokenizer import MageTokenizer

    AnyTokenizer = VQGAN | LlamaGenTokenizer | MageTokenizer
    AnyTransformer = MaskGIT | HaltonMaskGIT | MageTransformer
else:  # shapes are checked while tests run, when not all families are imported
    AnyTokenizer = AnyTransformer = nn.Module

SQUARE = PublicTokenizerSettings.pixels_per_token
TOKENIZER_KEY, TRANSFORMER_KEY = "generator.tokenizer.weights", "generator.maskgit.weights"


def tokenizer(settings: AnyTokenizerSettings, bands: int, finished: Path | None = None) -> AnyTokenizer:
    """A tokenizer with its weights: those that a stage starts from, or those that it has finished.

    Args:
        bands: of the tiles.
        finished: the weights of a finished stage. Without them, those that the recipe names are taken, or none.

    Raises:
        UserError: weights that are missing or do not fit, or tiles that a public network cannot see.
    """
    if settings.colours_only and bands != 3:
        raise UserError(
            f"generator.tokenizer: {settings.name} sees red, green and blue, but the tiles have {bands} bands. Train a "
            f"tokenizer of your own (generator.tokenizer.name: vqgan)"
        )
    built = TOKENIZERS[settings.name](_file(settings, finished), settings, bands)
    if built.pixels_per_token != settings.pixels_per_token:
        raise UserError(
            f"{TOKENIZER_KEY}: {settings.weights} has tokens of {built.pixels_per_token} px, not of "
            f"{settings.pixels_per_token} as the public {settings.name}: it is another network"
        )
    return built


def transformer(settings: AnyMaskGITSettings, codes: int, grid: int, finished: Path | None = None) -> AnyTransformer:
    """A transformer over tokens with its weights: those that a stage starts from, or those that it has finished.

    Args:
        codes: of the tokenizer.
        grid: side of the grid of tokens of a tile.
        finished: as for ``tokenizer``.

    Raises:
        UserError: weights that are missing or do not fit, or a grid that a public network does not know.
    """
    built = TRANSFORMERS[settings.name](_file(settings, finished), settings, codes, grid)
    if built.grid != grid:
        size, square = built.grid * SQUARE, grid * SQUARE
        raise UserError(
            f"generator.maskgit: {settings.name} works on {built.grid} by {built.grid} tokens, so on tiles of {size} "
            f"px, not of {square}: set data.size to {size}, with data.upscale: true where files are smaller"
        )
    if built.codes != codes:
        raise UserError(
            f"generator.maskgit: {settings.weights} knows {built.codes} codes, but the tokenizer has {codes}: they do "
            f"not belong together"
        )
    return built


def _file(settings: AnyTokenizerSettings | AnyMaskGITSettings, finished: Path | None) -> Path | None:
    return finished or (Path(settings.weights) if settings.weights else None)


# ---------------------------------------------------------------- what builds each


def _vqgan(file: Path | None, settings: TokenizerSettings, bands: int) -> VQGAN:
    net = VQGAN(bands, settings)
    if file:
        load_weights(file, net)
    return net


def _llamagen(file: Path, settings: PublicTokenizerSettings, bands: int) -> "LlamaGenTokenizer":
    from gcl_custom.generator.public.llamagen import LlamaGenTokenizer

    return LlamaGenTokenizer.from_file(file, TOKENIZER_KEY)


def _mage_tokenizer(file: Path, settings: PublicTokenizerSettings, bands: int) -> "MageTokenizer":
    from gcl_custom.generator.public.mage_tokenizer import MageTokenizer

    return MageTokenizer.from_file(file, TOKENIZER_KEY)


def _maskgit(file: Path | None, settings: MaskGITSettings, codes: int, grid: int) -> MaskGIT:
    net = MaskGIT(codes, grid, settings)
    if file:
        load_weights(file, net)
    return net


def _halton(file: Path, settings: PublicMaskGITSettings, codes: int, grid: int) -> "HaltonMaskGIT":
    from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT

    return HaltonMaskGIT.from_file(file, TRANSFORMER_KEY, heads=settings.heads)


def _mage(file: Path, settings: PublicMaskGITSettings, codes: int, grid: int) -> "MageTransformer":
    from gcl_custom.generator.public.mage import MageTransformer

    return MageTransformer.from_file(file, TRANSFORMER_KEY, heads=settings.heads)


TOKENIZERS: dict[str, Callable[..., AnyTokenizer]] = {
    "vqgan": _vqgan,
    "llamagen": _llamagen,
    "mage": _mage_tokenizer,
}
"""Name in a recipe -> what builds it, from a file of weights (none for own networks that start anew) and settings."""
TRANSFORMERS: dict[str, Callable[..., AnyTransformer]] = {"maskgit": _maskgit, "halton": _halton, "mage": _mage}
