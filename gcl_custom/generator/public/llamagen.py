"""LlamaGen's tokenizer (VQ-16 of arXiv:2406.06525, section 3.1), under the names of its public file.

A convolutional VQGAN (arXiv:2012.09841, appendix A) whose codes lie on the unit sphere: features and codes are divided
by their lengths before they are compared, as in ViT-VQGAN (arXiv:2110.04627, section 3.2).

Its blocks are those of CompVis/taming-transformers (MIT). Departure: the loss has no entropy term, whose weight is 0 in
the authors' settings.

    b  tiles     c  bands, 3     H W  pixels     h w  grid of tokens     d  width of a code     v  codes
    k  channels     y x  sides of a feature map
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.generator.augment.packed_attention import attention
from gcl_custom.generator.own.quantizer import Quantised
from gcl_custom.generator.public.token_networks import Codebook, PretrainedTokenizer, Resample, channels_of, norm
from gcl_custom.weights.state_dicts import fit_state, numbered, read_state, shape_of


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


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level attends, then a change of it."""

    def __init__(
        self, before: int, channels: int, blocks: int, attends: bool, then: Literal["halve", "double", "stay"]
    ) -> None:
        super().__init__()
        self.res = nn.ModuleList(Residual(before if number == 0 else channels, channels) for number in range(blocks))
        self.attn = nn.ModuleList(Attention(channels) for _ in range(blocks if attends else 0))
        self.downsample = Resample(channels, up=False) if then == "halve" else nn.Identity()
        self.upsample = Resample(channels, up=True) if then == "double" else nn.Identity()

    def forward(self, x: Float[Tensor, "b _k y x"]) -> Float[Tensor, "b k _y _x"]:
        for number, block in enumerate(self.res):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        return cast(Tensor, self.upsample(self.downsample(x)))


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
        "norm_out": norm(widths[-1]),
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
        "norm_out": norm(widths[0]),
        "swish": nn.SiLU(),
        "conv_out": nn.Conv2d(widths[0], 3, 3, padding=1),
    }
    return nn.Sequential(OrderedDict(parts))


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels, channels), Attention(channels), Residual(channels, channels))


class LlamaGenTokenizer(PretrainedTokenizer):
    """Encoder, codes and decoder; see ``PretrainedTokenizer`` for what it offers.

    ``state_dict`` has the names and shapes of the public file.

    Args:
        codes: size v of the codebook.
        code_width: d.
        channels: of the first convolution.
        widths: channels of each level, from the finest to the deepest; each level but the first halves the sides.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        inner: channels between the encoder and the projection to the codes' width.
    """

    def __init__(
        self, codes: int, code_width: int, channels: int, widths: Sequence[int], blocks: int, inner: int
    ) -> None:
        super().__init__()
        self.pixels_per_token = 2 ** (len(widths) - 1)
        self.encoder = encoder(channels, widths, blocks, inner)
        self.quant_conv = nn.Conv2d(inner, code_width, 1)
        self.quantize = Codebook(codes, code_width)
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
        levels = range(max(1, numbered(found, "encoder.conv_blocks.")))
        codes, code_width = shape_of(source, found, "quantize.embedding.weight", 2)
        module = cls(
            codes=codes,
            code_width=code_width,
            channels=channels_of(source, found, "encoder.conv_in.weight"),
            widths=[channels_of(source, found, f"encoder.conv_blocks.{i}.res.0.conv1.weight") for i in levels],
            blocks=numbered(found, "encoder.conv_blocks.0.res."),
            inner=shape_of(source, found, "encoder.conv_out.weight", 4)[0],
        )
        fit_state(source, found, module)
        return module

    @property
    def codebook(self) -> Float[Tensor, "v d"]:
        # in fp32 and of length 1, which the stored ones need not be
        return F.normalize(self.quantize.embedding.weight.float(), dim=1)

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.get_parameter("conv_out.weight")

    def quantise(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """The code of the least angle: on the sphere that is the nearest one."""
        with torch.autocast(features.device.type, enabled=False):
            return super().quantise(F.normalize(features.float(), dim=1))

    def _features(self, tiles: Float[Tensor, "b c H W"]) -> Float[Tensor, "b d h w"]:
        return cast(Tensor, self.quant_conv(self.encoder((2 * tiles - 1).to(self.quant_conv.weight))))

    def _tiles(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c H W"]:
        pixels: Tensor = self.decoder(self.post_quant_conv(features.to(self.post_quant_conv.weight)))
        return (pixels.float() + 1) / 2
