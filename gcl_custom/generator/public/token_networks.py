"""The shared parts of public token generators: methods around their networks, layers, and sizes read from weights.

    b  tiles     c  bands     H W  pixels     d  width     h w  grid of tokens     n  tokens of a tile     v  codes
    p  positions of all tiles that are computed, packed one tile after another     k  channels of a feature map
    y x  its sides

A family's module defines its networks under the names of the public file, so weights that are saved from here load like
the public file.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.packed_attention import Cache, PackedPositions, attention
from gcl_custom.generator.own.quantizer import Quantised, nearest
from gcl_custom.weights.state_dicts import shape_of

COMMITMENT = 0.25
"""Weight of the commitment beside the codebook's term (VQ-VAE, arXiv:1711.00937, eq. 3)."""
SMOOTHING = 0.1
"""Label smoothing of a transformer's loss, as in MaskGIT (arXiv:2202.04200)."""
GROUPS = 32
"""Groups of channels that the public VQGANs normalise together."""


class PretrainedTokenizer(nn.Module, ABC):
    """A public VQGAN: tiles to tokens and back.

    The loss is VQ-VAE's: codebook plus 0.25 commitment. Departure: taming-transformers, and MAGE after it, have the two
    weights exchanged, by an oversight that taming-transformers documents and keeps.
    """

    bands = 3
    pixels_per_token: int

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "v d"]:
        """The codes, one a row."""

    @property
    @abstractmethod
    def last_layer(self) -> Tensor:
        """Weights at which the adaptive weight of the adversary compares gradients."""

    @abstractmethod
    def _features(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        """The encoder's output for tiles in [0, 1]."""

    @abstractmethod
    def _tiles(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        """The decoder's output, on the scale of [0, 1]."""

    @property
    def codes(self) -> int:
        return len(self.codebook)

    def forward(self, tiles: Float[Tensor, "b c H W"]) -> tuple[Float[Tensor, "b c H W"], Quantised]:
        """Reconstructions, clamped outside training only, and the result of the codebook."""
        quantised = self.quantise(self.encode(tiles))
        return self.decode(quantised.features), quantised

    def encode(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        """Features of tiles in [0, 1], before quantisation; sides are multiples of ``pixels_per_token``."""
        return self._features(tiles.to(self.codebook.dtype))

    def quantise(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """The nearest codes by Euclidean distance, in fp32 whatever the features have."""
        with torch.autocast(features.device.type, enabled=False):
            flat, codebook = rearrange(features.float(), "b d h w -> b h w d"), self.codebook.float()
            tokens = nearest(flat.flatten(0, 2), codebook).view(flat.shape[:3])
            codes = F.embedding(tokens, codebook)
            loss = F.mse_loss(codes, flat.detach()) + COMMITMENT * F.mse_loss(flat, codes.detach())
            straight_through = flat + (codes - flat).detach()
        return Quantised(rearrange(straight_through, "b h w d -> b d h w"), tokens, loss)

    def tokenise(self, tiles: Float[Tensor, "b c H W"]) -> Int[Tensor, "b h w"]:
        """Tokens of tiles in [0, 1]."""
        return self.quantise(self.encode(tiles)).tokens

    def decode(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles from quantised features; clamped to [0, 1] outside training only, so that no gradient is lost."""
        tiles = self._tiles(features.to(self.codebook.dtype)).float()
        return tiles if self.training else tiles.clamp(0, 1)

    def decode_tokens(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles in [0, 1] from tokens."""
        return self.decode(rearrange(F.embedding(tokens, self.codebook), "b h w d -> b d h w")).clamp(0, 1)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Resample(nn.Module):
    """Half or twice the resolution, with a 3x3 convolution."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if up else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k _y _x"]:
        # halving looks one pixel further to the right and to the bottom only
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0) if self.up else F.pad(x, (0, 1, 0, 1))))


class Codebook(nn.Module):
    """Holds the codes under their name in public files."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)


class PretrainedTransformer(nn.Module, ABC):
    """A public MaskGIT, used without labels: tokens with some hidden -> logits of the codes."""

    codes: int
    grid: int

    @abstractmethod
    def logits_at(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], at: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "p v"]:
        """Logits at some positions, packed, from the tokens that are not hidden."""

    def forward(self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w v"]:
        """Logits everywhere. Hidden tokens have no influence."""
        logits = self.logits_at(tokens, hidden, torch.ones_like(hidden).flatten(1))
        return rearrange(logits, "(b h w) v -> b h w v", b=len(tokens), h=self.grid)

    def loss(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], smoothing: float | None = None
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the hidden tokens in nats, with label smoothing 0.1 unless another is given."""
        positions = hidden.flatten(1)
        logits = self.logits_at(tokens, hidden, positions).float()
        smoothing = SMOOTHING if smoothing is None else smoothing
        return F.cross_entropy(logits, tokens.flatten(1)[positions], label_smoothing=smoothing)

    def predict(
        self,
        tokens: Int[Tensor, "b h w"],
        hidden: Bool[Tensor, "b h w"],
        at: Bool[Tensor, "b n"],
        cache: Cache,
        changed: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "p v"]:
        """Logits at some positions, packed, for decoding in steps: exact, so the cache stays empty."""
        return self.logits_at(tokens, hidden, at)


def attend(
    normed: Float[Tensor, "b n d"],
    weight: Float[Tensor, "ddd d"],
    bias: Float[Tensor, " ddd"],
    heads: int,
    rows: PackedPositions | None = None,
) -> Float[Tensor, "*p d"]:
    """Self-attention before its output layer, at some positions (None: at all, unpacked), which look at all.

    Args:
        weight, bias: of the layer that gives queries, keys and values, in this order.
    """
    width = normed.shape[-1]
    asking = normed if rows is None else rows.padded(normed.flatten(0, 1)[rows.flat])
    queries = rearrange(F.linear(asking, weight[:width], bias[:width]), "b m (heads e) -> b heads m e", heads=heads)
    pair = F.linear(normed, weight[width:], bias[width:])
    keys, values = rearrange(pair, "b n (two heads e) -> two b heads n e", two=2, heads=heads).unbind()
    attended = rearrange(attention(queries, keys, values), "b heads m e -> b m (heads e)")
    return attended if rows is None else rows.packed(attended)


def channels_of(source: str, state: Mapping[str, Tensor], name: str) -> int:
    """Channels that a convolution gives; a UserError if they are no multiple of the groups that are normalised."""
    channels = shape_of(source, state, name, 4)[0]
    if channels == 0 or channels % GROUPS:
        raise UserError(f"{source} does not fit: {name} gives {channels} channels, no multiple of {GROUPS}")
    return channels


def grid_of(source: str, positions: int) -> int:
    """Side of the square grid of so many tokens; a UserError if there is none."""
    if positions < 1 or math.isqrt(positions) ** 2 != positions:
        raise UserError(f"{source} does not fit: its {positions} positions are no square grid of tokens")
    return math.isqrt(positions)


def heads_of(source: str, width: int, known: Mapping[int, int], given: int | None, inner: int | None = None) -> int:
    """Heads of attention, which no shape tells: as given, or as the public network of this width has.

    Args:
        inner: width of all heads together, where that is not the network's.

    Raises:
        UserError: none are given for another width, or they do not divide it.
    """
    heads, inner = known.get(width) if given is None else given, width if inner is None else inner
    if heads is None:
        widths = ", ".join(map(str, known))
        raise UserError(f"{source} has width {width}; heads are known for {widths} alone: say how many it has (heads)")
    if heads < 1 or inner % heads:
        raise UserError(f"{source} has attention of width {inner}, which {heads} heads do not divide")
    return heads
