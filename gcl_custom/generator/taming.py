"""The public VQGAN of taming-transformers (arXiv:2012.09841): tiles to 16x16 tokens of 1,024 codes and back.

Source: CompVis/taming-transformers, MIT; weights as llvictorll/Maskgit-pytorch and others give them away.

    b  tiles     k  channels     d  width of a code     y x  positions at some resolution

Levels run from the pixels to the tokens, each at half the resolution of the one before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.maskgit import attention
from gcl_custom.generator.pretrained import PretrainedTokenizer
from gcl_custom.weights import fit_state, numbered, read_state, shape_of

GROUPS = 32


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def channels_of(source: str, state: Mapping[str, Tensor], name: str) -> int:
    """Channels that a convolution gives; a UserError if they are no multiple of the groups that are normalised."""
    channels = shape_of(source, state, name, 4)[0]
    if channels == 0 or channels % GROUPS:
        raise UserError(f"{source} does not fit: {name} gives {channels} channels, no multiple of {GROUPS}")
    return channels


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), where x is brought to the number of channels by a 1x1 convolution."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.norm1 = norm(enter)
        self.conv1 = nn.Conv2d(enter, leave, 3, padding=1)
        self.norm2 = norm(leave)
        self.conv2 = nn.Conv2d(leave, leave, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(enter, leave, 1) if enter != leave else nn.Identity()

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b _ y x"]:
        added = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return cast(Tensor, self.nin_shortcut(x)) + added


class Attention(nn.Module):
    """x plus attention with one head over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
        normed = self.norm(x)
        triple = (rearrange(part(normed), "b k y x -> b 1 (y x) k") for part in (self.q, self.k, self.v))
        attended = rearrange(attention(*triple), "b 1 (y x) k -> b k y x", y=x.shape[2])
        return x + cast(Tensor, self.proj_out(attended))


class Resample(nn.Module):
    """Half or twice the resolution, with a 3x3 convolution."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if up else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k _y _x"]:
        # halving looks one pixel further to the right and to the bottom only
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0) if self.up else F.pad(x, (0, 1, 0, 1))))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level has it; then resampling."""

    def __init__(
        self, enter: int, leave: int, blocks: int, *, attends: bool, down: bool = False, up: bool = False
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(enter if i == 0 else leave, leave) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(leave) for _ in range(blocks if attends else 0))
        self.downsample = Resample(leave, up=False) if down else nn.Identity()
        self.upsample = Resample(leave, up=True) if up else nn.Identity()

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b _ _y _x"]:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return cast(Tensor, self.upsample(self.downsample(x)))


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = Residual(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = Residual(channels, channels)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
        return cast(Tensor, self.block_2(self.attn_1(self.block_1(x))))


@dataclass(frozen=True)
class Sizes:
    """Of the network, as the shapes of its weights tell them."""

    stem: int
    """Channels of the encoder's first convolution."""
    channels: Sequence[int]
    """Of each level, from the pixels to the tokens."""
    attends: Sequence[bool]
    """Which levels have attention."""
    blocks: int
    """Residual blocks of a level of the encoder; the decoder has one more."""
    bottleneck: int
    """Channels between the encoder and the codebook's width."""
    width: int
    """Of a code."""
    codes: int


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels, last = (sizes.stem, *sizes.channels), len(sizes.channels) - 1
        self.conv_in = nn.Conv2d(3, sizes.stem, 3, padding=1)
        self.down = nn.ModuleList(
            Level(channels[i], channels[i + 1], sizes.blocks, attends=attends, down=i < last)
            for i, attends in enumerate(sizes.attends)
        )
        self.mid = Middle(channels[-1])
        self.norm_out = norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], sizes.bottleneck, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k h w"]:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(self.mid(x)))))


class Decoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels = (*sizes.channels, sizes.channels[-1])
        self.conv_in = nn.Conv2d(sizes.bottleneck, channels[-1], 3, padding=1)
        self.mid = Middle(channels[-1])
        self.up = nn.ModuleList(
            Level(channels[i + 1], channels[i], sizes.blocks + 1, attends=attends, up=i > 0)
            for i, attends in enumerate(sizes.attends)
        )
        self.norm_out = norm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, x: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c H W"]:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(x))))


class Codebook(nn.Module):
    """Holds the codes under the name that they have in public files."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)


class TamingTokenizer(PretrainedTokenizer):
    """Encoder, codebook and decoder; see ``PretrainedTokenizer`` for what it offers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.pixels_per_token = 2 ** (len(sizes.channels) - 1)
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes)
        self.quantize = Codebook(sizes.codes, sizes.width)
        self.quant_conv = nn.Conv2d(sizes.bottleneck, sizes.width, 1)
        self.post_quant_conv = nn.Conv2d(sizes.width, sizes.bottleneck, 1)

    @classmethod
    def from_file(cls, path: Path, where: str) -> "TamingTokenizer":
        """The network in a public file, safetensors or a pickle of tensors, alone or under ``state_dict``.

        Weights of the loss (``loss.*``), which the public file has as well, are left out.

        Raises:
            UserError: it cannot be read without running code, or a weight is missing, surplus or of another shape.
        """
        state = read_state(path, where, ["state_dict"])
        state = {name: value for name, value in state.items() if not name.startswith("loss.")}
        source = f"{where}: {path}"
        levels = range(max(1, numbered(state, "encoder.down.")))
        codes, width = shape_of(source, state, "quantize.embedding.weight", 2)
        sizes = Sizes(
            stem=channels_of(source, state, "encoder.conv_in.weight"),
            channels=[channels_of(source, state, f"encoder.down.{i}.block.0.conv1.weight") for i in levels],
            attends=[numbered(state, f"encoder.down.{i}.attn.") > 0 for i in levels],
            blocks=numbered(state, "encoder.down.0.block."),
            bottleneck=shape_of(source, state, "encoder.conv_out.weight", 4)[0],
            width=width,
            codes=codes,
        )
        tokenizer = cls(sizes)
        fit_state(source, state, tokenizer)
        return tokenizer

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        return self.quantize.embedding.weight

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight

    def _features(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        return cast(Tensor, self.quant_conv(self.encoder(2 * tiles - 1)))

    def _tiles(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        return (cast(Tensor, self.decoder(self.post_quant_conv(features))) + 1) / 2
