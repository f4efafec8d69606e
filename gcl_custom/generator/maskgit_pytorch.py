"""The public MaskGIT of valeoai/Maskgit-pytorch, version 1 (MIT): a transformer on taming's 1,024 codes.

    b  tiles     h w  grid of tokens     n  tokens of a tile     d  width of the network     v  codes
    p  positions of all tiles that are computed, packed

Its vocabulary is the codes, one token that stands for hidden ones, ImageNet's 1,000 classes, and one that stands for
no class. A sequence is the tokens of a tile and then a class; here it is always the one for none, which it saw in a
tenth of its training, so the network is asked without a label and without guidance.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.maskgit import Rows
from gcl_custom.generator.pretrained import PretrainedTransformer, attend, grid_of, heads_of
from gcl_custom.weights import fit_state, numbered, read_state, shape_of

CLASSES = 1000
HEADS = {768: 16, 1024: 16}
"""Heads of the public networks, by width."""
DROPOUT = 0.1
"""In training, as its authors had it, but for the weights of attention."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(width, heads)  # holds the weights; ``attend`` lets fewer positions ask

    def forward(self, x: Float[Tensor, "b n d"], rows: Rows | None) -> Float[Tensor, "*p d"]:
        mha = self.mha
        return mha.out_proj(attend(x, mha.in_proj_weight, mha.in_proj_bias, mha.num_heads, rows))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        enter, leave = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.net = nn.Sequential(enter, nn.GELU(), nn.Dropout(DROPOUT), leave, nn.Dropout(DROPOUT))

    def forward(self, x: Float[Tensor, "*p d"]) -> Float[Tensor, "*p d"]:
        return cast(Tensor, self.net(x))


class Normed(nn.Module):
    """A layer and the norm before it."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = layer

    def forward(self, x: Float[Tensor, "*n d"], *rows: Rows | None) -> Float[Tensor, "*p d"]:
        return cast(Tensor, self.fn(self.norm(x), *rows))


class Transformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Normed(width, Attention(width, heads)), Normed(width, FeedForward(width, hidden))])
            for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "b n d"], rows: Rows) -> Float[Tensor, "p d"]:
        """Output at some positions: the last block computes these alone."""
        for number, layer in enumerate(self.layers, start=1):
            attention, feed_forward = cast(nn.ModuleList, layer)
            last = number == len(self.layers)
            x = attention(x, rows if last else None) + (x.flatten(0, 1)[rows.flat] if last else x)
            x = x + feed_forward(x)
        return x


class MaskgitPytorch(PretrainedTransformer):
    """Tokens with some hidden to logits of the codes; see ``PretrainedTransformer`` for what it offers.

    Args:
        codes: of the tokenizer.
        grid: side of the grid of tokens.
        hidden: width inside the feed-forward layers.
    """

    def __init__(self, codes: int, grid: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.codes, self.grid = codes, grid
        vocabulary, positions = codes + 1 + CLASSES + 1, grid**2 + 1
        self.no_class = vocabulary - 1
        self.tok_emb = nn.Embedding(vocabulary, width)
        self.pos_emb = nn.Parameter(torch.zeros(1, positions, width))
        self.bias = nn.Parameter(torch.zeros(positions, vocabulary))
        self.first_layer = nn.Sequential(
            nn.LayerNorm(width, eps=1e-12),
            nn.Dropout(DROPOUT),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=1e-12),
            nn.Dropout(DROPOUT),
            nn.Linear(width, width),
        )
        self.transformer = Transformer(width, depth, heads, hidden)
        self.last_layer = nn.Sequential(
            nn.LayerNorm(width, eps=1e-12),
            nn.Dropout(DROPOUT),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=1e-12),
        )

    @classmethod
    def from_file(cls, path: Path, where: str, *, heads: int | None = None) -> "MaskgitPytorch":
        """The network in a public file, safetensors or a pickle of tensors, alone or under ``model_state_dict``.

        Args:
            heads: of attention, where the width is not that of a public network.

        Raises:
            UserError: it cannot be read, or a weight is missing, surplus or of another shape.
        """
        state, source = read_state(path, where, ["model_state_dict"], ["module."]), f"{where}: {path}"
        vocabulary, width = shape_of(source, state, "tok_emb.weight", 2)
        if vocabulary < CLASSES + 3:
            raise UserError(f"{source} does not fit: tok_emb.weight has no place for {CLASSES} classes")
        network = cls(
            codes=vocabulary - CLASSES - 2,
            grid=grid_of(source, shape_of(source, state, "pos_emb", 3)[1] - 1),
            width=width,
            depth=numbered(state, "transformer.layers."),
            heads=heads_of(source, width, HEADS, heads),
            hidden=shape_of(source, state, "transformer.layers.0.1.fn.net.0.weight", 2)[0],
        )
        fit_state(source, state, network)
        return network

    def logits_at(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], at: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "p v"]:
        rows = Rows(F.pad(at, (0, 1)))
        ids = F.pad(tokens.masked_fill(hidden, self.codes).flatten(1), (0, 1), value=self.no_class)
        x = self.transformer(self.first_layer(self.tok_emb(ids) + self.pos_emb), rows)
        logits = F.linear(self.last_layer(x), self.tok_emb.weight[: self.codes])
        return logits + self.bias[rows.flat % len(self.bias), : self.codes]
