"""Parallel decoding of hidden tokens.

    b  tiles      h w  grid of tokens     n  tokens of a tile     v  codes
    p  positions of all tiles whose logits are wanted, packed one tile after another

Decoding follows MaskGIT (arXiv:2202.04200, section 3.2). Each step predicts and draws all hidden tokens, keeps the most
confident, and hides the others again, by the cosine schedule. With the Halton order, the tokens to keep are known
beforehand, so only these are predicted.

Three savings are exact. Logits and the last block's queries are computed only at the positions that need them. Tiles
are packed, so none is padded to the tile that hides most. One uniform number per token draws from the softmax by its
inverse distribution function.

One saving is approximate. Between refreshes only two kinds of tokens are computed: those decided in the last step, and
those to be predicted. All others answer with keys and values from a cache (ReCAP, arXiv:2505.19089).
"""

from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom.generator.augment.masks import halton_order, still_hidden
from gcl_custom.generator.augment.packed_attention import Cache
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import ViewsSettings


@runtime_checkable
class Predictor(Protocol):
    """A model that in-painting can ask; see ``MaskGIT.predict``."""

    def predict(
        self,
        tokens: Int[Tensor, "b h w"],
        hidden: Bool[Tensor, "b h w"],
        at: Bool[Tensor, "b n"],
        cache: Cache,
        changed: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "p v"]: ...


@torch.inference_mode()
def inpaint(
    model: Predictor,
    tokens: Int[Tensor, "b h w"],
    hidden: Bool[Tensor, "b h w"],
    rng: Randomness,
    settings: ViewsSettings,
) -> Int[Tensor, "b h w"]:
    """Replace hidden tokens, in at most ``settings.decoding_steps`` steps; visible ones stay as they are.

    Each tile follows its own number of hidden tokens, and ends early if it hides fewer tokens than there are steps.
    The other tiles of the batch change a tile's result only by the rounding of matrix products.
    """
    _, height, width = tokens.shape
    shown, covered = tokens.flatten(1).clone(), hidden.flatten(1).clone()
    initially = covered.sum(dim=1)
    order = _halton_ranks(rng, height, width) if settings.order == "halton" else None
    steps, cache, decided = settings.decoding_steps, Cache(), covered
    for step in range(steps):
        count = covered.sum(dim=1)
        if not count.any():
            break
        quota = count - still_hidden(initially, count, step, steps)
        refresh = step == 0 or (settings.refresh > 0 and step % settings.refresh == 0)
        at = covered if order is None else _highest(-order.float(), covered, quota)
        logits = model.predict(
            rearrange(shown, "b (h w) -> b h w", h=height),
            rearrange(covered, "b (h w) -> b h w", h=height),
            at,
            cache,
            None if refresh else at | decided,
        )
        drawn, confidence = _draw(
            logits.float() / settings.sampling_temperature, rng.uniform(f"token {step}", height * width)[at]
        )
        if order is None:
            score = torch.zeros(at.shape, device=at.device).masked_scatter_(at, confidence)
            if settings.temperature > 0:
                u = rng.uniform(f"noise {step}", height * width).clamp(min=2.0**-25)
                score = score - settings.temperature * (1 - (step + 1) / steps) * torch.log(-torch.log(u))
            decided = _highest(score, at, quota)
        else:
            decided = at
        shown[decided] = drawn[decided[at]]
        covered = covered & ~decided
    return rearrange(shown, "b (h w) -> b h w", h=height)


def _highest(score: Float[Tensor, "b n"], among: Bool[Tensor, "b n"], count: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Positions of the ``count`` highest scores of each tile, among some positions."""
    rank = score.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
    return among & (rank < count[:, None])


def _draw(logits: Float[Tensor, "p v"], u: Float[Tensor, " p"]) -> tuple[Int[Tensor, " p"], Float[Tensor, " p"]]:
    """One code from each softmax, and its log-probability."""
    p = logits.softmax(dim=1)
    cumulated = p.cumsum(dim=1)
    drawn = torch.searchsorted(cumulated, u[:, None] * cumulated[:, -1:], right=True).clamp(max=p.shape[1] - 1)
    return drawn[:, 0], p.gather(1, drawn)[:, 0].log()


def _halton_ranks(rng: Randomness, height: int, width: int) -> Int[Tensor, "b n"]:
    """Rank of each position in a Halton order, rolled by a random offset for each tile."""
    n = height * width
    rank = torch.empty(n, dtype=torch.long).scatter_(0, halton_order(height, width), torch.arange(n))
    offset = (rng.uniform("roll", 1) * n).long()
    return (rank.to(offset.device) - offset) % n
