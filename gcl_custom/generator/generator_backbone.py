"""The own generator as a backbone: what its tokenizer and its MaskGIT know of a tile, as a representation.

    b  tiles     c  bands     y x  pixels     h w  grid of tokens     n  tokens of a tile     v  codes     d  width

Nobody has to pretrain for them, so they tell what the generator itself has learned before any contrastive training.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator import build_networks
from gcl_custom.generator.loading import load_tokenizer
from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import TokenGeneratorSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


class TokenHistogram(nn.Module):
    """The share of each code among a tile's tokens: a bag of words whose words the tokenizer learned."""

    def __init__(self, tokenizer: VQGAN) -> None:
        super().__init__()
        self.tokenizer = tokenizer.requires_grad_(False)

    @torch.no_grad()
    def forward(self, tiles: Float[Tensor, "b c y x"]) -> Float[Tensor, "b v"]:
        tokens = self.tokenizer.tokenise(tiles).flatten(1)
        counts = torch.zeros(len(tokens), self.tokenizer.codes, device=tokens.device)
        return counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=counts.dtype)) / tokens.shape[1]


class HiddenStates(nn.Module):
    """The states after MaskGIT's last block with no token hidden, averaged over the tile."""

    def __init__(self, tokenizer: VQGAN, maskgit: MaskGIT) -> None:
        super().__init__()
        self.tokenizer, self.maskgit = tokenizer.requires_grad_(False), maskgit

    def forward(self, tiles: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d"]:
        with torch.no_grad():
            tokens = self.tokenizer.tokenise(tiles)
        return self.maskgit.states(tokens).mean(1)


def _histogram(run: Run, store: TileStore, tokenizer: VQGAN) -> tuple[nn.Module, int]:
    return TokenHistogram(tokenizer), tokenizer.codes


def _states(run: Run, store: TileStore, tokenizer: VQGAN) -> tuple[nn.Module, int]:
    settings = run.recipe.tokens
    grid = store.size // settings.tokenizer.pixels_per_token
    weights = plan.maskgit(run).path / plan.MASKGIT
    maskgit = build_networks.transformer(settings.maskgit, tokenizer.codes, grid, weights)
    assert isinstance(maskgit, MaskGIT), "a public transformer was refused"
    return HiddenStates(tokenizer, maskgit), maskgit.settings.width


PARTS: dict[str, Callable[[Run, TileStore, VQGAN], tuple[nn.Module, int]]] = {"hidden": _states, "tokens": _histogram}
"""What is taken of a generator -> what builds it, with its width."""


def generator_backbone(run: Run, store: TileStore, part: str, where: str) -> tuple[nn.Module, int]:
    """A part of a run's own generator as a backbone, and its width.

    Args:
        store: the tiles that the generator was trained on.
        part: "hidden" for MaskGIT's states, "tokens" for the histogram.
        where: the option that asks for it.

    Raises:
        UserError: the run has no finished generator of its own.
    """
    settings = run.recipe.generator
    if not isinstance(settings, TokenGeneratorSettings):
        raise UserError(f"{where}: the generator of run {run.name}, {settings.name}, has no tokens of its own")
    needed = [plan.tokenizer(run), plan.maskgit(run)][: 2 if part == "hidden" else 1]
    if missing := [stage.name for stage in needed if not stage.done]:
        raise UserError(
            f"{where}: run {run.name} has not finished its {' and its '.join(missing)}. Run: gcl-custom fit-generator "
            f"{run.options}"
        )
    tokenizer = load_tokenizer(run, store)
    if not isinstance(tokenizer, VQGAN) or (part == "hidden" and settings.maskgit.name != "maskgit"):
        raise UserError(f"{where}: the generator of run {run.name} is a public one; only an own one is read here")
    return PARTS[part](run, store, tokenizer)
