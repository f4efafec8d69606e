"""Halton-MaskGIT's transformer (arXiv:2503.17076), under the names of its public files, used without labels.

Blocks are modulated by a condition as in DiT (arXiv:2212.09748, section 3.2): for the condition c, the embedding of the
null class,

    x + g1 attention(ln1(x) (1 + s1) + t1),   then   x + g2 ff(ln2(x) (1 + s2) + t2),
    (t1, s1, g1, t2, s2, g2) = W swish(c) + w.

ff is SwiGLU (arXiv:2002.05202); norms are by the root mean square; queries and keys are normalised over all heads at
once; a register, a vector that belongs to no position, is appended to the tokens; the output layer is the embedding.

Departures: no dropout in fine-tuning, and the logit of the hidden token is left out, so that codes alone are predicted.

    b  tiles     h w  grid of tokens     n  tokens of a tile     l  tokens and registers of a tile     v  codes
    d  width of the network     e  width of all heads     p  positions of all tiles that are asked for, packed
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.packed_attention import PackedPositions, attention
from gcl_custom.generator.public.token_networks import PretrainedTransformer, grid_of, heads_of
from gcl_custom.weights.state_dicts import fit_state, numbered, read_state, shape_of

HEADS = {384: 6, 512: 6, 768: 12, 1024: 16}
"""Heads of the public networks by their width (tiny, small, base, large): no shape tells them."""


def by_rms(x: Float[Tensor, "*p d"]) -> Float[Tensor, "*p d"]:
    """x divided by its root mean square, in fp32."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=1e-5).to(x.dtype)


def modulated(
    x: Float[Tensor, "*p d"], shift: Float[Tensor, "1 d"], scale: Float[Tensor, "1 d"]
) -> Float[Tensor, "*p d"]:
    return x * (1 + scale) + shift


class RMSNorm(nn.Module):
    def __init__(self, width: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Float[Tensor, "*p d"]) -> Float[Tensor, "*p d"]:
        normed = by_rms(x) * self.weight
        return normed if self.bias is None else normed + self.bias


class Attention(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.wo = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Float[Tensor, "b l d"], asking: PackedPositions | None
    ) -> Float[Tensor, "b l d"] | Float[Tensor, "p d"]:
        """All positions answer; some ask (None: all, unpacked)."""
        queries = by_rms(self.wq(x if asking is None else x.flatten(0, 1)[asking.flat]))
        if asking is not None:
            queries = asking.padded(queries)
        attended = attention(*(self._split(part) for part in (queries, by_rms(self.wk(x)), self.wv(x))))
        joined = rearrange(attended, "b heads m e -> b m (heads e)")
        result: Tensor = self.wo(joined if asking is None else asking.packed(joined))
        return result

    def _split(self, x: Float[Tensor, "b m heads_e"]) -> Float[Tensor, "b heads m e"]:
        return rearrange(x, "b m (heads e) -> b heads m e", heads=self.heads)


class SwiGLU(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x: Float[Tensor, "*p d"]) -> Float[Tensor, "*p d"]:
        result: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return result


class Block(nn.Module):
    def __init__(self, width: int, inner: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.ln1, self.ln2 = RMSNorm(width), RMSNorm(width)
        self.attn = Attention(width, inner, heads)
        self.ff = SwiGLU(width, hidden)

    def forward(
        self, x: Float[Tensor, "b l d"], condition: Float[Tensor, "1 d"], asking: PackedPositions | None = None
    ) -> Float[Tensor, "b l d"] | Float[Tensor, "p d"]:
        """The block's output at some positions (None: at all, unpacked)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.mlp(condition).chunk(6, dim=1)
        attended = self.attn(modulated(self.ln1(x), shift1, scale1), asking)
        x = (x if asking is None else x.flatten(0, 1)[asking.flat]) + gate1 * attended
        return x + cast(Tensor, gate2 * self.ff(modulated(self.ln2(x), shift2, scale2)))


class LastNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = RMSNorm(width, bias=True)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Float[Tensor, "p d"], condition: Float[Tensor, "1 d"]) -> Float[Tensor, "p d"]:
        return modulated(self.norm_final(x), *self.mlp(condition).chunk(2, dim=1))


class HaltonMaskGIT(PretrainedTransformer):
    """Tokens with some hidden to logits of the codes; see ``PretrainedTransformer`` for what it offers.

    ``state_dict`` has the names and shapes of the public files.

    Args:
        codes: size v of the codebook.
        grid: side of the grid of tokens, h = w.
        width: d.
        heads: of each attention.
        depth: number of blocks.
        inner: width of all heads together.
        hidden: width inside SwiGLU.
        classes: of the labels that the network was trained with; the null class comes after them.
        registers: vectors appended to the tokens.
    """

    def __init__(
        self,
        codes: int,
        grid: int,
        width: int,
        heads: int,
        *,
        depth: int,
        inner: int,
        hidden: int,
        classes: int,
        registers: int,
    ) -> None:
        super().__init__()
        self.codes, self.grid = codes, grid
        self.cls_emb = nn.Embedding(classes + 1, width)
        self.tok_emb = nn.Embedding(codes + 1, width)  # the last one stands for hidden tokens
        self.pos_emb = nn.Embedding(grid * grid, width)
        self.reg_tokens = nn.Embedding(registers, width)
        layers = nn.ModuleList(Block(width, inner, hidden, heads) for _ in range(depth))
        self.transformer = nn.ModuleDict({"layers": layers})
        self.last_norm = LastNorm(width)
        self.head = nn.Linear(width, codes + 1)
        self.head.weight = self.tok_emb.weight

    @classmethod
    def from_file(cls, path: Path, where: str, heads: int | None = None) -> "HaltonMaskGIT":
        """Read a public ``ImageNet_*.pth``, another file of the same form, or what ``save_weights`` wrote.

        Args:
            where: what a message shall call the file's place.
            heads: of each attention; None takes it from ``HEADS``.

        Raises:
            UserError: it cannot be read; a tensor is missing, surplus or of another shape; or the number of heads is
                not known or does not divide the attention's width.
        """
        found = read_state(path, where, ["model_state_dict"], ["module.", "_orig_mod."])
        source = f"{where}: {path}"

        def shape(name: str) -> tuple[int, ...]:
            return shape_of(source, found, f"{name}.weight", 2)

        embeddings, width = shape("tok_emb")
        inner = shape("transformer.layers.0.attn.wq")[0]
        module = cls(
            codes=embeddings - 1,
            grid=grid_of(source, shape("pos_emb")[0]),
            width=width,
            heads=heads_of(source, width, HEADS, heads, inner),
            depth=numbered(found, "transformer.layers."),
            inner=inner,
            hidden=shape("transformer.layers.0.ff.w1")[0],
            classes=shape("cls_emb")[0] - 1,
            registers=shape("reg_tokens")[0],
        )
        fit_state(source, found, module)
        if not torch.equal(found["head.weight"], found["tok_emb.weight"]):
            raise UserError(f"{source} does not fit {cls.__name__}: head.weight is not tok_emb.weight, as it should be")
        return module

    def logits_at(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], at: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "p v"]:
        # the last block asks and the head computes at these positions alone, which is exact
        condition, registers = self.cls_emb.weight[-1:], self.reg_tokens.weight
        embedded = self.tok_emb(tokens.masked_fill(hidden, self.codes).flatten(1)) + self.pos_emb.weight
        x = torch.cat([embedded, repeat(registers, "r d -> b r d", b=len(tokens))], dim=1)
        asking = PackedPositions(F.pad(at, (0, len(registers))))
        *before, last = cast(Sequence[Block], self.transformer["layers"])
        for block in before:
            x = block(x, condition)
        x = self.last_norm(last(x, condition, asking), condition)
        return F.linear(x, self.tok_emb.weight[: self.codes], self.head.bias[: self.codes])
