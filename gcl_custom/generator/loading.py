"""Loads the generator that a run's stages have finished, with its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator import build_networks
from gcl_custom.generator.augment.interface import Generator
from gcl_custom.generator.build_networks import AnyTokenizer, AnyTransformer
from gcl_custom.generator.chosen_edit import with_chosen_edit
from gcl_custom.generator.encoding import draws, encoder, some_tiles
from gcl_custom.generator.own.as_backbone import HiddenStates, TokenHistogram
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.generator.token_store import Tokens
from gcl_custom.generator.vqgan_latent import VqganLatent
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import (
    IcGanSettings,
    ImageToImageSettings,
    PublicMaskGITSettings,
    PublicTokenizerSettings,
    TokenGeneratorSettings,
    UnclipSettings,
)
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.devices import autocast, pick_device, precision_of

if TYPE_CHECKING:  # brought by libraries that only these generators need
    from gcl_custom.generator.public.diffusion import ImageToImage
    from gcl_custom.generator.public.icgan import IcGan
    from gcl_custom.generator.public.unclip import Unclip
else:
    ImageToImage = IcGan = Unclip = Any

WEIGHTS, MODEL = "generator.weights", "generator.model"


def load_tokenizer(run: Run, store: TileStore) -> AnyTokenizer:
    """The finished tokenizer of a run.

    Raises:
        UserError: its weights are missing or do not fit the settings.
    """
    return build_networks.tokenizer(run.recipe.tokens.tokenizer, store.bands, plan.tokenizer(run).path / plan.TOKENIZER)


def load_token_generator(run: Run, store: TileStore) -> TokenGenerator:
    """The finished generator of a run that in-paints tokens; raises what ``load_tokenizer`` raises."""
    hardware, tokenizer = run.recipe.hardware, load_tokenizer(run, store)
    maskgit = _transformer(run, store, tokenizer)
    return TokenGenerator(tokenizer, maskgit, run.recipe.views, hardware, pick_device(hardware))


def _transformer(run: Run, store: TileStore, tokenizer: AnyTokenizer) -> AnyTransformer:
    settings = run.recipe.tokens
    grid = store.size // settings.tokenizer.pixels_per_token
    return build_networks.transformer(settings.maskgit, tokenizer.codes, grid, plan.maskgit(run).path / plan.MASKGIT)


def load_generator(run: Run, store: TileStore) -> Generator:
    """The finished generator of a run, of whatever family, with the augmentation that the recipe chose.

    Raises:
        UserError: its weights are missing or do not fit the settings, or it cannot see tiles of these bands.
    """
    unedited = load_unedited(run, store)
    return with_chosen_edit(run, store, unedited) if run.recipe.edits_latent else unedited


def load_unedited(run: Run, store: TileStore) -> Any:
    """The finished generator of a run without an edit of its latent; raises what ``load_generator`` raises.

    It is a ``Generator``, but where an edit is to follow it need be a ``LatentGenerator`` alone.
    """
    settings = run.recipe.generator
    return FAMILIES[settings.name](run, store, settings)


def _tokens(run: Run, store: TileStore, settings: TokenGeneratorSettings) -> TokenGenerator | VqganLatent:
    if run.recipe.inpaints:
        return load_token_generator(run, store)
    some = store.unit(store.read(some_tiles(store)))
    return VqganLatent(load_tokenizer(run, store), some, pick_device(run.recipe.hardware))


def _icgan(run: Run, store: TileStore, settings: IcGanSettings) -> IcGan:
    from gcl_custom.generator.public.icgan import IcGan
    from gcl_custom.weights.hub import require_colours

    require_colours(WEIGHTS, store.bands)
    return IcGan.from_files(
        Path(settings.weights), Path(settings.encoder), (WEIGHTS, "generator.encoder"), store.size,
        pick_device(run.recipe.hardware), strength=settings.strength, truncation=settings.truncation,
        inversion_steps=settings.inversion_steps,
    )  # fmt: skip


def _image_to_image(run: Run, store: TileStore, settings: ImageToImageSettings) -> ImageToImage:
    from gcl_custom.generator.public.captions import CaptionFile
    from gcl_custom.generator.public.diffusion import ImageToImage

    device = pick_device(run.recipe.hardware)
    captions = CaptionFile(plan.captions(run).path / plan.CAPTIONS) if settings.captions else None
    return ImageToImage(
        settings.model, MODEL, bands=store.bands, side=store.size, steps=settings.steps, strength=settings.strength,
        guidance=settings.guidance, captions=captions, device=device,
        precision=precision_of(run.recipe.hardware, device),
    )  # fmt: skip


def _unclip(run: Run, store: TileStore, settings: UnclipSettings) -> Unclip:
    from gcl_custom.generator.public.unclip import Unclip

    device = pick_device(run.recipe.hardware)
    return Unclip(
        settings.model, MODEL, bands=store.bands, side=store.size, steps=settings.steps,
        noise_level=settings.noise_level, guidance=settings.guidance, device=device,
        precision=precision_of(run.recipe.hardware, device),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[Run, TileStore, Any], Any]] = {
    "tokens": _tokens,
    "icgan": _icgan,
    "diffusion": _image_to_image,
    "unclip": _unclip,
}
"""Name of a family in a recipe -> what loads it. Its libraries are imported when it is chosen."""


def reconstruct(
    run: Run, store: TileStore, generator: Generator | None = None
) -> Callable[[Int[Tensor, " b"]], Float[Tensor, "b c h w"]]:
    """What gives the plain reconstructions of training tiles, by their numbers.

    Args:
        generator: that of the run, if it is loaded already. Without it, the parts that are needed are loaded.
    """
    device, hardware = pick_device(run.recipe.hardware), run.recipe.hardware
    if run.recipe.generator.has_tokens:
        tokenizer = generator.tokenizer if isinstance(generator, TokenGenerator) else load_tokenizer(run, store)
        tokenizer, stored = tokenizer.to(device).eval(), Tokens(plan.tokens(run).path, store)

        @torch.inference_mode()
        def decode(tiles: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
            with autocast(hardware, device):
                return tokenizer.decode_tokens(stored.read(tiles)[:, 0].to(device))

        return decode
    whole = generator or load_unedited(run, store)
    encode = encoder(run, store, whole)
    return lambda tiles: whole.decode(encode(tiles, draws(run, tiles.to(device))))


PARTS = ("hidden", "tokens")
"""What an own generator gives as a backbone: MaskGIT's states, or the histogram of tokens."""


def stages_of(run: Run, part: str, where: str) -> list[Stage]:
    """The stages that a part of a run's own generator comes from.

    Raises:
        UserError: the generator has no tokens of its own.
    """
    settings = run.recipe.generator
    if not isinstance(settings, TokenGeneratorSettings):
        raise UserError(f"{where}: the generator of run {run.name}, {settings.name}, has no tokens of its own")
    return [plan.tokenizer(run), plan.maskgit(run)][: 2 if part == "hidden" else 1]


def load_as_backbone(run: Run, store: TileStore, part: str, where: str) -> tuple[nn.Module, int]:
    """A part of a run's own generator as a backbone, and its width.

    Args:
        store: the tiles that the generator was trained on.
        part: one of ``PARTS``.
        where: the option that asks for it.

    Raises:
        UserError: the run has no finished generator of its own.
    """
    if missing := [stage.name for stage in stages_of(run, part, where) if not stage.done]:
        raise UserError(
            f"{where}: run {run.name} has not finished its {' and its '.join(missing)}. Run: gcl-custom fit-generator "
            f"{run.options}"
        )
    settings = run.recipe.tokens
    if isinstance(settings.tokenizer, PublicTokenizerSettings) or isinstance(settings.maskgit, PublicMaskGITSettings):
        raise UserError(f"{where}: the generator of run {run.name} is a public one; only an own one is read here")
    tokenizer = load_tokenizer(run, store)
    assert isinstance(tokenizer, VQGAN)
    if part == "tokens":
        return TokenHistogram(tokenizer), tokenizer.codes
    maskgit = _transformer(run, store, tokenizer)
    assert isinstance(maskgit, MaskGIT)
    return HiddenStates(tokenizer, maskgit), settings.maskgit.width
