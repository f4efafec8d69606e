"""The VQGAN of MaskGIT (arXiv:2202.04200), as MAGE and TiTok give it away: tiles to 16x16 tokens and back.

Sources: LTH14/mage, MIT, inside its checkpoints; fun-research/TiTok, ``maskgit-vqgan-imagenet-f16-256.bin``,
Apache-2.0, which has other weights and other names for some layers.

    b  tiles     k  channels     d  width of a code     y x  positions at some resolution

Unlike LlamaGen's it has no attention, its residual convolutions have no bias, the encoder averages 2x2 positions to
halve the resolution, the codebook stands between encoder and decoder without convolutions around it, and tiles enter on
the scale of [0, 1]. Where a block changes the number of channels, its shortcut starts from what the block adds, W f(x)
+ f(x) in place of W x + f(x): an oversight in the original that its weights were trained with.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.public.token_networks import Codebook, PretrainedTokenizer, Resample, channels_of, norm
from gcl_custom.weights.state_dicts import fit_state, numbered, read_state, shape_of

TOKENIZER = {"encoder", "decoder", "quantize"}
TRANSFORMER = {
    "token_emb",
    "blocks",
    "norm",
    "decoder_embed",
    "decoder_pos_embed_learned",
    "decoder_blocks",
    "decoder_norm",
    "mlm_layer",
}
UNUSED = {
    "token_emb.position_ids",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "cls_token",
    "pos_embed",
    "mask_token",
    "decoder_pos_embed",
    "decoder_pred.weight",
    "decoder_pred.bias",
}
"""What a MAGE checkpoint has from the code that it grew out of: nothing that computes tokens."""


def mage_parts(source: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the transformer and of the tokenizer in a MAGE checkpoint, by their names alone.

    Raises:
        UserError: a weight belongs to neither.
    """
    transformer, tokenizer = dict[str, Tensor](), dict[str, Tensor]()
    for name, value in state.items():
        inside = name.removeprefix("vqgan.")
        if name in UNUSED:
            continue
        if inside.split(".")[0] in TOKENIZER:
            tokenizer[inside] = value
        elif name.split(".")[0] in TRANSFORMER:
            transformer[name] = value
        else:
            raise UserError(f"{source} does not fit: surplus {name}")
    return transformer, tokenizer


class Residual(nn.Module):
    """x + f(x) with f = conv(silu(norm(conv(silu(norm(x)))))); W f(x) + f(x) where the number of channels changes."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.norm1 = norm(enter)
        self.conv1 = nn.Conv2d(enter, leave, 3, padding=1, bias=False)
        self.norm2 = norm(leave)
        self.conv2 = nn.Conv2d(leave, leave, 3, padding=1, bias=False)
        self.nin_shortcut = nn.Conv2d(leave, leave, 1, bias=False) if enter != leave else None

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b _ y x"]:
        added = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return cast(Tensor, added + (x if self.nin_shortcut is None else self.nin_shortcut(added)))


class Level(nn.Module):
    """Residual blocks at one resolution, and then resampling."""

    def __init__(self, enter: int, leave: int, blocks: int, *, down: bool = False, up: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(*(Residual(enter if i == 0 else leave, leave) for i in range(blocks)))
        self.downsample = nn.AvgPool2d(2) if down else nn.Identity()
        self.upsample = Resample(leave, up=True) if up else nn.Identity()

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b _ _y _x"]:
        return cast(Tensor, self.upsample(self.downsample(self.block(x))))


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = Residual(channels, channels)
        self.block_2 = Residual(channels, channels)

    def forward(self, x: Float[Tensor, "b k y x"]) -> Float[Tensor, "b k y x"]:
        return cast(Tensor, self.block_2(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, stem: int, levels: Sequence[int], blocks: int, width: int) -> None:
        super().__init__()
        channels = (stem, *levels)
        self.conv_in = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.down = nn.Sequential(
            *(Level(channels[i], channels[i + 1], blocks, down=i + 1 < len(levels)) for i in range(len(levels)))
        )
        self.mid = Middle(channels[-1])
        self.norm_out = norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], width, 1)

    def forward(self, x: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        x = self.mid(self.down(self.conv_in(x)))
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(x))))


class Decoder(nn.Module):
    def __init__(self, levels: Sequence[int], blocks: int, width: int) -> None:
        super().__init__()
        channels = (*levels, levels[-1])
        self.conv_in = nn.Conv2d(width, channels[-1], 3, padding=1)
        self.mid = Middle(channels[-1])
        self.up = nn.ModuleList(Level(channels[i + 1], channels[i], blocks, up=i > 0) for i in range(len(levels)))
        self.norm_out = norm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(x))))


class MageTokenizer(PretrainedTokenizer):
    """Encoder, codebook and decoder; see ``PretrainedTokenizer`` for what it offers.

    Args:
        stem: channels of the encoder's first convolution.
        levels: channels of each level, from the pixels to the tokens.
        blocks: residual blocks of a level.
        width: of a code.
    """

    def __init__(self, codes: int, stem: int, levels: Sequence[int], blocks: int, width: int) -> None:
        super().__init__()
        self.pixels_per_token = 2 ** (len(levels) - 1)
        self.encoder = Encoder(stem, levels, blocks, width)
        self.decoder = Decoder(levels, blocks, width)
        self.quantize = Codebook(codes, width)

    @classmethod
    def from_file(cls, path: Path, where: str) -> "MageTokenizer":
        """The tokenizer in MAGE's file or in TiTok's, safetensors or a pickle of tensors, alone or under ``model``.

        The transformer, which MAGE's file has as well, is left out.

        Raises:
            UserError: it cannot be read, or a weight is missing, surplus or of another shape.
        """
        source = f"{where}: {path}"
        _, state = mage_parts(source, read_state(path, where, ["model"]))
        state = {_name_in_mage(name): value for name, value in state.items()}
        codes, width = shape_of(source, state, "quantize.embedding.weight", 2)
        levels = range(max(1, numbered(state, "encoder.down.")))
        tokenizer = cls(
            codes=codes,
            stem=channels_of(source, state, "encoder.conv_in.weight"),
            levels=[channels_of(source, state, f"encoder.down.{i}.block.0.conv1.weight") for i in levels],
            blocks=numbered(state, "encoder.down.0.block."),
            width=width,
        )
        fit_state(source, state, tokenizer)
        return tokenizer

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        return self.quantize.embedding.weight

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight

    def _features(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        return cast(Tensor, self.encoder(tiles))

    def _tiles(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        return cast(Tensor, self.decoder(features))


def _name_in_mage(name: str) -> str:
    """The name in MAGE's checkpoint of a weight in TiTok's."""
    name = re.sub(r"^(encoder|decoder)\.mid\.(\d)\.", lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}.", name)
    return name.replace(".upsample_conv.", ".upsample.conv.")
