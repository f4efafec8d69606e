"""Inversion of a generator without an encoder: the latent whose picture comes closest to a tile, by descent.

    b  tiles

The tiles do not influence each other: Adam works number by number, and a tile's distance knows no other tile. So the
result depends on the tile and the start alone, up to the rounding of matrix products.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Inverted(NamedTuple):
    """The latents that an inversion found, and how close they come."""

    latent: Float[Tensor, "b *latent"]
    before: Float[Tensor, " b"]
    """Distance at the start."""
    after: Float[Tensor, " b"]
    """Least distance on the way, which is that of the latents found; never above ``before``."""


def invert(
    distance: Callable[[Tensor], Tensor],
    start: Float[Tensor, "b *latent"],
    steps: int,
    learning_rate: float,
    bound: float,
) -> Inverted:
    """Descend from a start by Adam, within a bound, and keep the closest latent seen.

    Call it outside of ``torch.inference_mode``, and make the tensors that ``distance`` holds outside of it, too.

    Args:
        distance: from latents to each tile's distance, with a gradient.
        learning_rate: about how far each number of a latent moves in a step.
        bound: largest magnitude of a number of a latent. The generator was never trained beyond it.
    """
    with torch.enable_grad():
        latent = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=learning_rate)
        best, before, least = latent.detach().clone(), torch.empty(0), torch.full((len(start),), torch.inf)
        for step in range(steps + 1):
            distances = distance(latent)
            reached = distances.detach()
            if step == 0:
                before, least = reached, torch.full_like(reached, torch.inf)
            closer = reached < least
            least = torch.where(closer, reached, least)
            best[closer] = latent.detach()[closer]
            if step < steps:
                (latent.grad,) = torch.autograd.grad(distances.sum(), latent)
                optimizer.step()
                with torch.no_grad():
                    latent.clamp_(-bound, bound)
    return Inverted(best, before, least)
