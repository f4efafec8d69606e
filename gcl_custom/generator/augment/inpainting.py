"""Parallel decoding of hidden tokens.

    b  tiles      h w  grid of tokens     n  tokens of a tile     v  codes
    p  positions of all tiles whose logits are wanted, packed one tile after another

Decoding follows MaskGIT (arXiv:2202.04200, section 3.2). Each step predicts and draws all hidden tokens, keeps the most
confident, and hides the others again, by the cosine schedule. With the Halton order, the tokens to keep are known
beforehand, so only these are predicted.

Three savings are exact. Logits and the last block's queries are computed only at the positions that need them. Tiles
are packed, so none is padded to the tile that hides most. One uniform number per token draws from the softmax by its
inverse distribution function.

Two savings are approximate. Between refreshes only two kinds of tokens are computed: those decided in the last step,
and those to be predicted. All but the first answer with keys and values from a cache (ReCAP, arXiv:2505.19089). And of
the hidden tokens, only ``CANDIDATES`` times as many are predicted as will be kept: the most confident, when the step's
own random numbers draw from the distributions that were predicted last. What is kept is always drawn from a new
prediction.
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

CANDIDATES = 2
"""To predict all hidden tokens takes 1.5 to 1.7 times as long. It brought 0.02 nats a token where a quarter is hidden,
0.07 where a half is, and no nearer features."""


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
    steps, cache, decided, predicted = settings.decoding_steps, Cache(), covered, Predicted(covered)
    for step in range(steps):
        count = covered.sum(dim=1)
        if not count.any():
            break
        quota = count - still_hidden(initially, count, step, steps)
        refresh = step == 0 or (settings.refresh > 0 and step % settings.refresh == 0)
        u, noise = rng.uniform(f"token {step}", height * width), _noise(rng, step, height * width, settings)
        if order is not None:
            at = _highest(-order.float(), covered, quota)
        elif refresh or not cache.pairs:
            at = covered
        else:
            at = _highest(predicted.draw(u)[1] + noise, covered, CANDIDATES * quota)
        logits = model.predict(
            rearrange(shown, "b (h w) -> b h w", h=height),
            rearrange(covered, "b (h w) -> b h w", h=height),
            at,
            cache,
            None if refresh else decided,
        )
        predicted.renew(at, logits.float() / settings.sampling_temperature)
        drawn, confidence = predicted.draw(u)
        decided = at if order is not None else _highest(confidence + noise, at, quota)
        shown = torch.where(decided, drawn, shown)
        covered = covered & ~decided
    return rearrange(shown, "b (h w) -> b h w", h=height)


def _noise(rng: Randomness, step: int, places: int, settings: ViewsSettings) -> Float[Tensor, "b n"]:
    """Gumbel noise on the confidence, which falls linearly to 0 over the steps."""
    heat = settings.temperature * (1 - (step + 1) / settings.decoding_steps)
    return -heat * torch.log(-torch.log(rng.uniform(f"noise {step}", places).clamp(min=2.0**-25)))


def _highest(score: Float[Tensor, "b n"], among: Bool[Tensor, "b n"], count: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Positions of the ``count`` highest scores of each tile, among some positions."""
    rank = score.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
    return among & (rank < count[:, None])


class Predicted:
    """The distribution of each hidden token as it was predicted last.

    Args:
        hidden: where they are.
    """

    def __init__(self, hidden: Bool[Tensor, "b n"]) -> None:
        self._hidden = hidden
        self._slots = (hidden.flatten().cumsum(0) - 1).view_as(hidden)
        self._cumulated: Float[Tensor, "p v"] | None = None

    def renew(self, at: Bool[Tensor, "b n"], logits: Float[Tensor, "p v"]) -> None:
        """Replace those of some hidden tokens."""
        cumulated = logits.softmax(dim=1).cumsum_(dim=1)
        if self._cumulated is None:
            self._cumulated = cumulated.new_zeros(int(self._hidden.sum()), cumulated.shape[1])
        self._cumulated.index_copy_(0, self._slots[at], cumulated)

    def draw(self, u: Float[Tensor, "b n"]) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
        """One code for each hidden token, and its log-probability; 0 and minus infinity elsewhere."""
        assert self._cumulated is not None
        cumulated = self._cumulated
        drawn = torch.searchsorted(cumulated, u[self._hidden][:, None] * cumulated[:, -1:], right=True)
        drawn.clamp_(max=cumulated.shape[1] - 1)
        below = cumulated.gather(1, (drawn - 1).clamp(min=0)).where(drawn > 0, 0.0)
        confidence = (cumulated.gather(1, drawn) - below)[:, 0].log()
        return (
            torch.zeros_like(self._slots).masked_scatter_(self._hidden, drawn[:, 0]),
            torch.full(u.shape, -torch.inf, device=u.device).masked_scatter_(self._hidden, confidence),
        )


def _halton_ranks(rng: Randomness, height: int, width: int) -> Int[Tensor, "b n"]:
    """Rank of each position in a Halton order, rolled by a random offset for each tile."""
    n = height * width
    rank = torch.empty(n, dtype=torch.long).scatter_(0, halton_order(height, width), torch.arange(n))
    offset = (rng.uniform("roll", 1) * n).long()
    return (rank.to(offset.device) - offset) % n
