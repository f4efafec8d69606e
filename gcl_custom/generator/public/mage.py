"""MAGE (arXiv:2211.09117), a masked transformer that is label-free by itself: an encoder and a decoder of tokens.

Source: LTH14/mage, MIT; its tokenizer, in the same checkpoint, is in ``mage_tokenizer``.

    b  tiles     h w  grid of tokens     n  tokens of a tile     d  width of the network     v  codes
    p  positions of all tiles that are computed, packed

A sequence is a token for the whole tile, followed by the tokens of the tile. The encoder reads all of it. At hidden
positions, the decoder gets the encoder's output for the whole tile.

Departure from the authors' training: there the encoder drops half of the tokens, all of them hidden, to save time;
here, as in their generation of images, it never does.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.packed_attention import PackedPositions
from gcl_custom.generator.public.mage_tokenizer import mage_parts
from gcl_custom.generator.public.token_networks import PretrainedTransformer, attend, grid_of, heads_of
from gcl_custom.weights.state_dicts import fit_state, numbered, read_state, shape_of

CLASSES = 1000
WHOLE_TILE = 76
"""Of the vocabulary's unused classes, the one whose embedding stands for the whole tile: token 1100 of the public."""
HEADS = {768: 12, 1024: 16}
"""Heads of the public encoders, by width."""
DECODER_HEADS = 16
DROPOUT = 0.1
"""In training, as its authors had it, but for the weights of attention."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], rows: PackedPositions | None) -> Float[Tensor, "*p d"]:
        return cast(Tensor, self.proj(attend(x, self.qkv.weight, self.qkv.bias, self.heads, rows)))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "*p d"]) -> Float[Tensor, "*p d"]:
        return cast(Tensor, self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm attention and MLP, at some positions (None: at all, unpacked)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "b n d"], rows: PackedPositions | None = None) -> Float[Tensor, "*p d"]:
        attended = self.dropout(self.attn(self.norm1(x), rows))
        x = attended + (x if rows is None else x.flatten(0, 1)[rows.flat])
        return x + cast(Tensor, self.dropout(self.mlp(self.norm2(x))))


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return cast(Tensor, self.dropout(self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings.weight)))


class Head(nn.Module):
    """Logits of the codes from the embeddings of the tokens and a bias."""

    def __init__(self, width: int, embedded: int, vocabulary: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, embedded)
        self.ln = nn.LayerNorm(embedded)
        self.bias = nn.Parameter(torch.zeros(1, 1, vocabulary))

    def forward(self, x: Float[Tensor, "p d"], codes: Float[Tensor, "v e"]) -> Float[Tensor, "p v"]:
        return F.linear(self.ln(F.gelu(self.fc(x))), codes, self.bias[0, 0, : len(codes)])


class MageTransformer(PretrainedTransformer):
    """Tokens with some hidden to logits of the codes; see ``PretrainedTransformer`` for what it offers.

    Args:
        codes: of the tokenizer.
        grid: side of the grid of tokens.
        width, depth, heads, hidden: of the encoder; ``hidden`` is the width inside its MLPs.
        decoder_width, decoder_depth, decoder_heads, decoder_hidden: the same of the decoder.
    """

    def __init__(
        self,
        codes: int,
        grid: int,
        *,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        decoder_width: int,
        decoder_depth: int,
        decoder_heads: int,
        decoder_hidden: int,
    ) -> None:
        super().__init__()
        self.codes, self.grid = codes, grid
        vocabulary, positions = codes + CLASSES + 1, grid**2 + 1
        self.mask, self.whole_tile = vocabulary - 1, codes + WHOLE_TILE
        self.token_emb = Embeddings(vocabulary, positions, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, positions, decoder_width))
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_width, decoder_heads, decoder_hidden) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.mlm_layer = Head(decoder_width, width, vocabulary)

    @classmethod
    def from_file(
        cls, path: Path, where: str, *, heads: int | None = None, decoder_heads: int = DECODER_HEADS
    ) -> "MageTransformer":
        """The transformer in a public file, safetensors or a pickle of tensors, alone or under ``model``.

        The tokenizer, which the public file has as well, and what generates no token there are left out.

        Args:
            heads: of the encoder's attention, where its width is not that of a public network.

        Raises:
            UserError: it cannot be read, or a weight is missing, surplus or of another shape.
        """
        source = f"{where}: {path}"
        state, _ = mage_parts(source, read_state(path, where, ["model"]))
        vocabulary, width = shape_of(source, state, "token_emb.word_embeddings.weight", 2)
        positions, _ = shape_of(source, state, "token_emb.position_embeddings.weight", 2)
        decoder_width, _ = shape_of(source, state, "decoder_embed.weight", 2)
        if vocabulary < CLASSES + 2:
            raise UserError(
                f"{source} does not fit: token_emb.word_embeddings.weight has no place for {CLASSES} classes"
            )
        network = cls(
            codes=vocabulary - CLASSES - 1,
            grid=grid_of(source, positions - 1),
            width=width,
            depth=numbered(state, "blocks."),
            heads=heads_of(source, width, HEADS, heads),
            hidden=shape_of(source, state, "blocks.0.mlp.fc1.weight", 2)[0],
            decoder_width=decoder_width,
            decoder_depth=numbered(state, "decoder_blocks."),
            decoder_heads=heads_of(source, decoder_width, {}, decoder_heads),
            decoder_hidden=shape_of(source, state, "decoder_blocks.0.mlp.fc1.weight", 2)[0],
        )
        fit_state(source, state, network)
        return network

    def logits_at(
        self, tokens: Int[Tensor, "b h w"], hidden: Bool[Tensor, "b h w"], at: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "p v"]:
        ids = F.pad(tokens.masked_fill(hidden, self.mask).flatten(1), (1, 0), value=self.whole_tile)
        x = self.token_emb(ids)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        x = torch.where((ids == self.mask)[..., None], x[:, :1], x) + self.decoder_pos_embed_learned
        rows = PackedPositions(F.pad(at, (1, 0)))
        for number, block in enumerate(self.decoder_blocks, start=1):
            x = block(x, rows if number == len(self.decoder_blocks) else None)
        codes = self.token_emb.word_embeddings.weight[: self.codes]
        return cast(Tensor, self.mlm_layer(self.decoder_norm(x), codes))
