"""The own generator as a backbone: what its tokenizer and its MaskGIT know of a tile, as a representation.

    b  tiles     c  bands     y x  pixels     h w  grid of tokens     n  tokens of a tile     v  codes     d  width

Nobody has to pretrain for them, so they tell what the generator itself has learned before any contrastive training.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.own.maskgit import MaskGIT
from gcl_custom.generator.own.vqgan import VQGAN


class TokenHistogram(nn.Module):
    """The share of each code among a tile's tokens: a bag of words whose words the tokenizer learned."""

    tokenizer: Any
    """One of ``build_networks``, own or public: ``tokenise`` gives the numbers of its ``codes``."""

    def __init__(self, tokenizer: nn.Module) -> None:
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
