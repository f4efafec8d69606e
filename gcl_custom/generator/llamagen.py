"""LlamaGen's tokenizer (VQ-16 of arXiv:2406.06525, section 3.1), under the names of its public file.

A convolutional VQGAN (arXiv:2012.09841, appendix A) whose codes lie on the unit sphere: features and codes are divided
by their lengths before they are compared, as in ViT-VQGAN (arXiv:2110.04627, section 3.2).

Departure: the loss has no entropy term, whose weight is 0 in the authors' settings.

    b  tiles     c  bands, 3     H W  pixels     h w  grid of tokens     d  width of a code     v  codes
    k  channels     y x  sides of a feature map     n  tokens of all tiles
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.maskgit import attention
from gcl_custom.generator.quantizer import Quantised
from gcl_custom.weights import fit_state, numbered, read_state, shape_of

GROUPS = 32
"""Of every group norm; channels are a multiple of it."""
COMMITMENT = 0.25
COMPARED_AT_ONCE = 4096
"""Features whose similarity to all codes is in memory at a time: 256 MiB for 16,384 codes."""


class Residual(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))); x goes through a 1x1 convolution where the channels change."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv2d(before, channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, channels, 1) if before != channels else nn.Identity()

    def forward(self, x: Float[Tensor, "b _k y x"]) -> Float[Tensor, "b k y x"]:
        inner = self.conv1(F.silu(self.norm1(x)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        result: Tensor = self.nin_shortcut(x) + inner
        return result


class SelfAttention(nn.Module):
    """x plus attention over all positions, with one head and projections by 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
        normed = self.norm(x)
        q, k, v = (rearrange(part(normed), "b k y x -> b 1 (y x) k") for part in (self.q, self.k, self.v))
        attended = rearrange(attention(q, k, v), "b 1 (y x) k -> b k y x", y=x.shape[2])
        return x + self.proj_out(attended)


class Halving(nn.Module):
    """A convolution of stride 2, padded at the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k _y _x"]:
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Doubling(nn.Module):
    """Each value repeated twice along both sides, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k _y _x"]:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return doubled


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level attends, then a change of it."""

    def __init__(
        self, before: int, channels: int, blocks: int, attends: bool, then: Literal["halve", "double", "stay"]
    ) -> None:
        super().__init__()
        self.res = nn.ModuleList(Residual(before if number == 0 else channels, channels) for number in range(blocks))
        self.attn = nn.ModuleList(SelfAttention(channels) for _ in range(blocks if attends else 0))
        self.downsample = Halving(channels) if then == "halve" else None
        self.upsample = Doubling(channels) if then == "double" else None

    def forward(self, x: Float[Tensor, "b _k y x"]) -> Float[Tensor, "b k _y _x"]:
        for number, block in enumerate(self.res):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        for change in (self.downsample, self.upsample):
            if change is not None:
                x = change(x)
        return x


def encoder(channels: int, widths: Sequence[int], blocks: int, leave: int) -> nn.Sequential:
    """Pixels in [-1, 1] to a feature map; ``widths`` from the finest level to the deepest, which alone attends."""
    before = [channels, *widths[:-1]]
    deepest = len(widths) - 1
    levels = [
        Level(before[i], width, blocks, i == deepest, "stay" if i == deepest else "halve")
        for i, width in enumerate(widths)
    ]
    parts = {
        "conv_in": nn.Conv2d(3, channels, 3, padding=1),
        "conv_blocks": nn.Sequential(*levels),
        "mid": _middle(widths[-1]),
        "norm_out": _norm(widths[-1]),
        "swish": nn.SiLU(),
        "conv_out": nn.Conv2d(widths[-1], leave, 3, padding=1),
    }
    return nn.Sequential(OrderedDict(parts))


def decoder(enter: int, widths: Sequence[int], blocks: int) -> nn.Sequential:
    """A feature map to pixels in [-1, 1], from the deepest level to the finest."""
    deepest, before = len(widths) - 1, [*widths[1:], widths[-1]]
    levels = [
        Level(before[i], widths[i], blocks, i == deepest, "stay" if i == 0 else "double")
        for i in reversed(range(len(widths)))
    ]
    parts = {
        "conv_in": nn.Conv2d(enter, widths[-1], 3, padding=1),
        "mid": _middle(widths[-1]),
        "conv_blocks": nn.Sequential(*levels),
        "norm_out": _norm(widths[0]),
        "swish": nn.SiLU(),
        "conv_out": nn.Conv2d(widths[0], 3, 3, padding=1),
    }
    return nn.Sequential(OrderedDict(parts))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels, channels), SelfAttention(channels), Residual(channels, channels))


class SphereQuantizer(nn.Module):
    """The code of the least angle, in fp32 even under autocast; the codebook learns by gradient."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        """The codes, of length 1, which the stored ones need not be."""
        return F.normalize(self.embedding.weight.float(), dim=1)

    def forward(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """Quantise. On the sphere, the nearest code by Euclidean distance is the one of the least angle."""
        with torch.autocast(features.device.type, enabled=False):
            unit, codebook = F.normalize(features.float(), dim=1), self.codebook
            tokens = self._nearest(unit, codebook)
            nearest = rearrange(F.embedding(tokens, codebook), "b h w d -> b d h w")
            loss = F.mse_loss(nearest, unit.detach()) + COMMITMENT * F.mse_loss(unit, nearest.detach())
            return Quantised(unit + (nearest - unit).detach(), tokens, loss)

    def look_up(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """The codes of tokens."""
        return rearrange(F.embedding(tokens, self.codebook), "b h w d -> b d h w")

    @torch.no_grad()
    def _nearest(self, unit: Float[Tensor, "b d h w"], codebook: Float[Tensor, "v d"]) -> Int[Tensor, "b h w"]:
        flat = rearrange(unit, "b d h w -> (b h w) d")
        tokens = torch.cat([(part @ codebook.T).argmax(dim=1) for part in flat.split(COMPARED_AT_ONCE)])
        return tokens.view(len(unit), *unit.shape[2:])


class LlamaGenTokenizer(nn.Module):
    """Tiles of three bands to tokens and back. ``state_dict`` has the names and shapes of the public file.

    Args:
        codes: size v of the codebook.
        code_width: d.
        channels: of the first convolution.
        widths: channels of each level, from the finest to the deepest; each level but the first halves the sides.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        inner: channels between the encoder and the projection to the codes' width.
    """

    bands = 3

    def __init__(
        self, codes: int, code_width: int, channels: int, widths: Sequence[int], blocks: int, inner: int
    ) -> None:
        super().__init__()
        self.codes, self.pixels_per_token = codes, 2 ** (len(widths) - 1)
        self.encoder = encoder(channels, widths, blocks, inner)
        self.quant_conv = nn.Conv2d(inner, code_width, 1)
        self.quantize = SphereQuantizer(codes, code_width)
        self.post_quant_conv = nn.Conv2d(code_width, inner, 1)
        self.decoder = decoder(inner, widths, blocks + 1)

    @classmethod
    def from_file(cls, path: Path, where: str) -> "LlamaGenTokenizer":
        """Read the public ``vq_ds16_c2i.pt``, another file of the same form, or what ``save_weights`` wrote.

        Args:
            where: what a message shall call the file's place.

        Raises:
            UserError: it cannot be read, or a tensor is missing, surplus or of another shape.
        """
        found = read_state(path, where, ["model"])
        found.pop("quantize.codebook_used", None)  # tokens that the authors' training saw last
        source = f"{where}: {path}"
        module = cls(**_sizes(source, found))
        fit_state(source, found, module)
        return module

    @property
    def last_layer(self) -> Tensor:
        """Weights at which the adaptive weight of the adversary compares gradients."""
        return self.decoder.get_parameter("conv_out.weight")

    def forward(self, tiles: Float[Tensor, "b c H W"]) -> tuple[Float[Tensor, "b c H W"], Quantised]:
        """Reconstructions of tiles in [0, 1], not clamped in training, and what the quantizer gave."""
        quantised = self.quantise(self.encode(tiles))
        return self.decode(quantised.features), quantised

    def encode(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        """Features of tiles in [0, 1], before quantisation; sides are multiples of ``pixels_per_token``."""
        features: Tensor = self.quant_conv(self.encoder((2 * tiles - 1).to(self.quant_conv.weight)))
        return features

    def quantise(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """The nearest codes; their loss is that of the codebook and 0.25 times the commitment."""
        quantised: Quantised = self.quantize(features)
        return quantised

    def tokenise(self, tiles: Float[Tensor, "b c H W"]) -> Int[Tensor, "b h w"]:
        """Tokens of tiles in [0, 1]."""
        return self.quantise(self.encode(tiles)).tokens

    def decode(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles from quantised features; clamped to [0, 1] outside training only, so that no gradient is lost."""
        pixels = self.decoder(self.post_quant_conv(features.to(self.post_quant_conv.weight)))
        tiles = (pixels.float() + 1) / 2
        return tiles if self.training else tiles.clamp(0, 1)

    def decode_tokens(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b c H W"]:
        """Tiles in [0, 1] from tokens."""
        return self.decode(self.quantize.look_up(tokens)).clamp(0, 1)


def _sizes(source: str, found: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, from names and shapes."""

    def outputs(name: str) -> int:
        return shape_of(source, found, f"{name}.weight", 4)[0]

    codes, code_width = shape_of(source, found, "quantize.embedding.weight", 2)
    levels = range(max(1, numbered(found, "encoder.conv_blocks.")))
    names = [f"encoder.conv_blocks.{level}.res.0.conv1" for level in levels]
    named = {name: outputs(name) for name in ("encoder.conv_in", *names)}
    for name, width in named.items():
        if width == 0 or width % GROUPS:
            raise UserError(f"{source} does not fit: {name}.weight has {width} channels, not a multiple of {GROUPS}")
    return {
        "codes": codes,
        "code_width": code_width,
        "channels": named["encoder.conv_in"],
        "widths": [named[name] for name in names],
        "blocks": numbered(found, "encoder.conv_blocks.0.res."),
        "inner": outputs("encoder.conv_out"),
    }
