"""Attention over some positions of each tile, packed one after another.

b  tiles     n  positions of a tile     d  width of the network     p  packed positions of all tiles
m  most of them in one tile
"""

from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.bf16_units import has_units


class PackedPositions:
    """Some positions of each tile, packed one after another, so that no tile pays for a tile with more of them.

    Only attention mixes positions. It takes one list per tile, padded with zeros to the longest.

    Args:
        where: the positions.
    """

    def __init__(self, where: Bool[Tensor, "b n"]) -> None:
        self.flat: Int[Tensor, " p"] = where.flatten().nonzero()[:, 0]
        tiles, most = self._shape = len(where), int(where.sum(dim=1).max())
        first = most * torch.arange(tiles, device=where.device)
        self._slots = (first[:, None] + where.cumsum(dim=1) - 1)[where]

    def padded(self, packed: Float[Tensor, "p d"]) -> Float[Tensor, "b m d"]:
        lists = packed.new_zeros(*self._shape, packed.shape[1])
        lists.flatten(0, 1).index_copy_(0, self._slots, packed)
        return lists

    def packed(self, padded: Float[Tensor, "b m d"]) -> Float[Tensor, "p d"]:
        return padded.flatten(0, 1).index_select(0, self._slots)


def attention(
    queries: Float[Tensor, "b heads m e"], keys: Float[Tensor, "b heads n e"], values: Float[Tensor, "b heads n e"]
) -> Float[Tensor, "b heads m e"]:
    """Scaled dot-product attention.

    On a CPU it is written out in two cases, where the fused kernel takes longer. With a gradient in bf16, its backward
    pass took 3 to 9 times as long (64 tokens, 3 to 8 heads), which is more than the rest of a training step. In bf16
    without AMX it is no faster than in fp32, and took 1.7 to 2.4 times as long (64 and 256 tokens, 2 and 4 heads).
    """
    if queries.device.type == "cpu" and (torch.is_grad_enabled() or _fused_is_slow(queries.dtype)):
        if not torch.is_grad_enabled():  # the product would copy them to a slower order
            keys, values = keys.contiguous(), values.contiguous()
        weights = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        return torch.matmul(weights.softmax(dim=-1), values)
    return F.scaled_dot_product_attention(queries, keys, values)


@cache
def _fused_is_slow(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of a type faster than its fused attention does."""
    return dtype is torch.bfloat16 and not has_units("amx_bf16")


@dataclass
class Cache:
    """Values that decoding keeps from step to step."""

    pairs: list[Float[Tensor, "b n dd"]] = field(default_factory=list)
    """For each block, the keys and values of all positions, as last computed."""
    table: Float[Tensor, "k d"] | None = None
    """The vectors that each token adds to the embedding of its neighbours."""

    def renew(self, block: int, pair: Float[Tensor, "*p dd"], rows: PackedPositions | None) -> Float[Tensor, "b n dd"]:
        """Store what was computed at some positions (None: at all), and give the values of all positions."""
        if rows is None:
            self.pairs[block:] = [pair]
        else:
            self.pairs[block].flatten(0, 1).index_copy_(0, rows.flat, pair)
        return self.pairs[block]
