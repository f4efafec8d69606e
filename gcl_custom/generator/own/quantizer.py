"""Vector quantisation with an EMA or a gradient codebook, and revival of codes that fell out of use.

Sources: VQ-VAE, arXiv:1711.00937, eq. 3 and appendix A.1 (the EMA codebook); Jukebox, arXiv:2005.00341, section 3.1
(moving unused codes to encoder outputs).

Shapes: b tiles, d width of a code, h w tokens along a tile's sides, n = b h w features, k codes.
"""

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.training import processes

COMPARED_AT_ONCE = 2**26
"""Distances between features and codes that are in memory at a time: 256 MiB."""


class Quantised(NamedTuple):
    """The result of a forward pass of the quantizer."""

    features: Float[Tensor, "b d h w"]
    """The nearest codes; the gradient passes straight through to the encoder."""
    tokens: Int[Tensor, "b h w"]
    loss: Float[Tensor, ""]
    """The commitment term; for the gradient codebook, the codebook term as well."""


class VectorQuantizer(nn.Module):
    """Nearest code by Euclidean distance, always in fp32.

    The first training batch draws the codebook from its features, so that no code starts far from the data. In
    training, ``ema`` moves each code to the exponential moving average of the features that chose it; ``gradient``
    leaves that to the optimiser. A code that no feature chose for ``revive_after`` steps, or for a multiple of
    them, is moved to a random feature of the current batch, and its statistics start anew. Counts and sums are
    taken over all ranks, so that every rank keeps the same codebook.

    Departure from VQ-VAE: the EMA counts are smoothed by Laplace's rule, as in the authors' Sonnet code.
    """

    codebook: Tensor
    steps_unused: Tensor
    started: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codes: int,
        width: int,
        *,
        codebook: Literal["ema", "gradient"],
        commitment: float,
        decay: float,
        revive_after: int,
    ) -> None:
        super().__init__()
        self.commitment, self.decay, self.revive_after = commitment, decay, revive_after
        self.learned = codebook == "gradient"
        start = torch.randn(codes, width) / width**0.5
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("steps_unused", torch.zeros(codes, dtype=torch.long))
        if self.learned:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("counts", torch.ones(codes))
            self.register_buffer("sums", start.clone())

    def forward(self, features: Float[Tensor, "b d h w"]) -> Quantised:
        """Quantise; in training mode also update the codebook and its statistics."""
        with torch.autocast(features.device.type, enabled=False):
            b, _, h, w = features.shape
            flat = rearrange(features.float(), "b d h w -> (b h w) d")
            if self.training and not self.started:
                self._start(flat.detach())
            tokens = self.nearest(flat)
            nearest = F.embedding(tokens, self.codebook)
            loss = self.commitment * F.mse_loss(flat, nearest.detach())
            if self.learned:
                loss = loss + F.mse_loss(nearest, flat.detach())
            straight_through = flat + (nearest - flat).detach()
            if self.training:
                self._learn(flat.detach(), tokens)
        return Quantised(
            rearrange(straight_through, "(b h w) d -> b d h w", b=b, h=h, w=w),
            rearrange(tokens, "(b h w) -> b h w", b=b, h=h, w=w),
            loss,
        )

    def nearest(self, flat: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Index of the code with the least Euclidean distance to each feature."""
        return nearest(flat, self.codebook)

    def tokens(self, features: Float[Tensor, "b d h w"]) -> Int[Tensor, "b h w"]:
        """The token of each feature, without any update."""
        b, _, h, w = features.shape
        with torch.autocast(features.device.type, enabled=False):
            tokens = self.nearest(rearrange(features.float(), "b d h w -> (b h w) d"))
        return rearrange(tokens, "(b h w) -> b h w", b=b, h=h, w=w)

    def look_up(self, tokens: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """The codes of tokens."""
        return rearrange(F.embedding(tokens, self.codebook), "b h w d -> b d h w")

    @torch.no_grad()
    def _start(self, flat: Float[Tensor, "n d"]) -> None:
        self._place(torch.ones_like(self.steps_unused, dtype=torch.bool), flat)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, flat: Float[Tensor, "n d"], tokens: Int[Tensor, " n"]) -> None:
        codes = len(self.codebook)
        chosen = torch.bincount(tokens, minlength=codes)
        processes.sum_over(chosen)
        self.steps_unused = torch.where(chosen > 0, 0, self.steps_unused + 1)
        if not self.learned:
            sums = torch.zeros_like(self.sums).index_add_(0, tokens, flat)
            processes.sum_over(sums)
            self.counts.lerp_(chosen.float(), 1 - self.decay)
            self.sums.lerp_(sums, 1 - self.decay)
            self.codebook.copy_(self.sums / laplace(self.counts)[:, None])
        dead = (self.steps_unused > 0) & (self.steps_unused % self.revive_after == 0)
        if dead.any():
            self._place(dead, flat)

    def _place(self, which: Tensor, flat: Float[Tensor, "n d"]) -> None:
        """Move the codes at ``which`` to features drawn at random, without repetition while there are enough."""
        number = int(which.sum())
        order = torch.randperm(len(flat), device=flat.device)
        drawn = flat[order.repeat(-(-number // len(flat)))[:number]]
        if processes.count() > 1:
            dist.broadcast(drawn, src=0)
        self.codebook.data[which] = drawn
        if not self.learned:
            self.counts[which] = 1.0
            self.sums[which] = drawn


@torch.no_grad()
def nearest(flat: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Index of the code with the least Euclidean distance to each feature."""
    # |f - c|^2 = |f|^2 - 2 f.c + |c|^2, and |f|^2 does not change the order
    parts, lengths = flat.split(max(1, COMPARED_AT_ONCE // len(codebook))), codebook.square().sum(1)
    return torch.cat([torch.addmm(lengths, part, codebook.T, alpha=-2).argmin(1) for part in parts])


def laplace(counts: Float[Tensor, " k"], epsilon: float = 1e-5) -> Float[Tensor, " k"]:
    """Counts smoothed so that none is 0, with the same total (Laplace's rule)."""
    total = counts.sum()
    return (counts + epsilon) / (total + len(counts) * epsilon) * total


def share_and_perplexity(counts: Int[Tensor, " k"]) -> tuple[float, float]:
    """Share of codes in use, and the perplexity: exp of the entropy of their use, as a number of equally used codes."""
    total = counts.sum().clamp(min=1)
    frequency = counts.double() / total
    entropy = -torch.special.xlogy(frequency, frequency).sum()
    return (counts > 0).double().mean().item(), entropy.exp().item()
