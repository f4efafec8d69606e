"""A VQGAN, our own or a public one, as a generator whose latent is continuous: its features before quantisation.

    b  tiles     d h w  features: width of a code, grid of tokens

Decoding takes the nearest codes first. So the decoder sees codes alone, whatever an edit does to the features.
"""

import copy
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.augment.latent_edits import AllLatent
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.randomness import Randomness

BLOCK = 32
"""Tiles whose features are computed at a time."""
LEAST_DEVIATION = 1e-6
"""Of a channel: edits divide by it, and a dead channel has none."""


class VqganLatent(AllLatent):
    """A tokenizer with the interface of a generator. ``Edited`` gives it an augmentation.

    Args:
        vqgan: trained; copied and frozen here.
        some: training tiles in [0, 1], from whose features the mean and spread of each channel are taken.
    """

    gaussian = False

    def __init__(self, vqgan: AnyTokenizer, some: Float[Tensor, "n c y x"], device: torch.device) -> None:
        self.vqgan = copy.deepcopy(vqgan).to(device).eval().requires_grad_(False)
        self.networks: Sequence[nn.Module] = (self.vqgan,)
        self.device = device
        with torch.no_grad():
            blocks = [self.vqgan.encode(block.to(device)) for block in some.split(BLOCK)]
        features = rearrange(torch.cat(blocks), "b d h w -> d (b h w)")
        self.mean = features.mean(1)[:, None, None]
        self.deviation = features.std(1).clamp(min=LEAST_DEVIATION)[:, None, None]

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b c y x"], rng: Randomness) -> Float[Tensor, "b d h w"]:
        """Tiles in [0, 1] to features before quantisation; nothing is drawn."""
        return self.vqgan.encode(tiles.to(self.device))

    @torch.inference_mode()
    def decode(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c y x"]:
        """The nearest codes of features, to tiles in [0, 1]."""
        return self.render(features)

    def render(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c y x"]:
        """As ``decode``, with a gradient, which passes the quantizer straight through."""
        return self.vqgan.decode(self.vqgan.quantise(features).features)
