"""Barlow Twins (Zbontar et al., arXiv:2103.03230), eq. 1-2:

    loss = Σ_i (1 - C_ii)² + λ Σ_i Σ_j≠i C_ij²,    C = Z̃ᵀ Z̃' / n

where Z̃ is Z with mean 0 and standard deviation 1 over the batch. With small crops the loss is the mean over pairs of a
large view and another view (see ``multi_crop``).

    n  tiles in the whole batch, over all processes     d  width of a projection

With n < d the redundancy is computed from the n x n matrices of inner products; the result is the same. Under DDP both
terms are those of the whole batch, with exact gradients.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.method import Projected, Scalar
from gcl_custom.methods.multi_crop import over_pairs
from gcl_custom.methods.whole_batch import whole_batch
from gcl_custom.recipe.methods import BarlowTwinsSettings

Projections = Float[Tensor, "n d"]

EPSILON = 1e-5
"""Added to the variance, as batch normalisation does in the authors' code."""


class BarlowTwins(Projected):
    """The projector and the two terms."""

    def __init__(self, backbone: nn.Module, width: int, settings: BarlowTwinsSettings) -> None:
        super().__init__(backbone, width, settings)
        self.settings = settings

    def terms(self, z: Sequence[Float[Tensor, "b d"]]) -> dict[str, Scalar]:
        z = [standardised(whole_batch(view)) for view in z]
        on, off = over_pairs(lambda *two: torch.stack(cross_correlation(*two)), z)
        return {"invariance": on, "redundancy": self.settings.redundancy * off}


def standardised(z: Projections) -> Projections:
    """Mean 0 and standard deviation 1 over the batch."""
    variance, mean = torch.var_mean(z, dim=0, correction=0)
    return (z - mean) * torch.rsqrt(variance + EPSILON)


def cross_correlation(z: Projections, z_other: Projections) -> tuple[Scalar, Scalar]:
    """Of standardised projections: Σ (1 - C_ii)², and the sum of squares of C off its diagonal."""
    n, d = z.shape
    diagonal = (z * z_other).sum(dim=0) / n
    # ‖Zᵀ Z'‖² = Σ (Z Zᵀ) ∘ (Z' Z'ᵀ): the smaller matrices will do.
    whole = ((z @ z.T) * (z_other @ z_other.T)).sum() if n < d else (z.T @ z_other).square().sum()
    return (1 - diagonal).square().sum(), whole / n**2 - diagonal.square().sum()
