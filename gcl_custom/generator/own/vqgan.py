"""The VQGAN: a tile to tokens and back (arXiv:2012.09841), built to be cheap on a CPU.

Departures from the paper: the stem is space-to-depth and the head pixel-shuffle, so that no convolution runs at the
resolution of the pixels, unless tokens have 2 px; blocks work at the tokens' resolution and at twice it, where 3x3
convolutions reach over the borders of the squares; there is no attention, and one group norm a block.

Shapes: b tiles, c bands, H W pixels, d width of a code, h w tokens along the sides, H = h * pixels_per_token.
"""

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.generator.own.quantizer import Quantised, VectorQuantizer
from gcl_custom.recipe.generator import TokenizerSettings


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))), the identity at the start of training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels // 8, channels)
        self.enter = nn.Conv2d(channels, channels, 3, padding=1)
        self.leave = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return x + self.leave(F.silu(self.enter(F.silu(self.norm(x)))))


class VQGAN(nn.Module):
    """Encoder, quantizer and decoder for tiles of any number of bands.

    Args:
        bands: of the tiles.
        settings: the recipe's section ``generator.tokenizer``.
    """

    def __init__(self, bands: int, settings: TokenizerSettings) -> None:
        super().__init__()
        self.codes, self.pixels_per_token = settings.codes, settings.pixels_per_token
        wide, fine, square = settings.channels, settings.channels // 2, settings.pixels_per_token // 2
        self.encoder = nn.Sequential(
            Rearrange("b c (h p) (w q) -> b (c p q) h w", p=square, q=square),
            nn.Conv2d(bands * square**2, fine, 3, padding=1),
            *(ResidualBlock(fine) for _ in range(settings.blocks)),
            Rearrange("b k (h p) (w q) -> b (k p q) h w", p=2, q=2),
            nn.Conv2d(4 * fine, wide, 1),
            *(ResidualBlock(wide) for _ in range(settings.blocks)),
            nn.GroupNorm(wide // 8, wide),
            nn.Conv2d(wide, settings.code_width, 1),
        )
        self.quantizer = VectorQuantizer(
            settings.codes,
            settings.code_width,
            codebook=settings.codebook,
            commitment=settings.commitment,
            decay=settings.ema_decay,
            revive_after=settings.revive_after,
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(settings.code_width, wide, 3, padding=1),
            *(ResidualBlock(wide) for _ in range(settings.blocks)),
            nn.Conv2d(wide, 4 * fine, 1),
            Rearrange("b (k p q) h w -> b k (h p) (w q)", p=2, q=2),
            *(ResidualBlock(fine) for _ in range(settings.blocks)),
            nn.GroupNorm(fine // 8, fine),
            nn.SiLU(),
        )
        self.head = nn.Conv2d(fine, bands * square**2, 3, padding=1)
        self.to_pixels = Rearrange("b (c p q) h w -> b c (h p) (w q)", p=square, q=square)
        self.to(memory_format=torch.channels_last)

    @property
    def last_layer(self) -> Tensor:
        """Weights at which the adaptive weight of the adversary compares gradients."""
        return self.head.weight

    def forward(self, tiles: Float[Tensor, "b c H W"]) -> tuple[Float[Tensor, "b c H W"], Quantised]:
        """Reconstructions, not clamped, and the result of the quantizer."""
        quantised = self.quantise(self.encode(tiles))
        return self.decode(quantised.features), quantised

    def encode(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        """Features of tiles in [0, 1], before quantisation."""
        centred = (2 * tiles - 1).contiguous(memory_format=torch.channels_last)
        return self.encoder(centred)

    def quantise(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """The nearest codes of features before quantisation."""
        return self.quantizer(features)

    def tokenise(self, tiles: Float[Tensor, "b c H W"]) -> Int[Tensor, "b h w"]:
        """Tokens of tiles in [0, 1]."""
        return self.quantizer.tokens(self.encode(tiles))

    def decode(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles from quantised features; clamped to [0, 1] outside training only, so that no gradient is lost."""
        pixels = self.to_pixels(self.head(self.decoder(features))).float()
        tiles = (pixels + 1) / 2
        return tiles if self.training else tiles.clamp(0, 1)

    def decode_tokens(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles in [0, 1] from tokens."""
        return self.decode(self.quantizer.look_up(tokens)).clamp(0, 1)
