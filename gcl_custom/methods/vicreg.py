"""VICReg (Bardes, Ponce and LeCun, arXiv:2105.04906), eq. 6:

    loss = λ s(Z, Z') + μ [v(Z) + v(Z')] + ν [c(Z) + c(Z')]

    n  tiles in the whole batch, over all processes     d  width of a projection

Unlike eq. 5-6, and like the authors' code: s is also averaged over d, and the two variance terms are halved.

With small crops, s is averaged over pairs of a large view and another view, and v and c over all views, as in the
authors' code of VICRegL (arXiv:2210.01571; see ``multi_crop``):

    loss = λ mean_pairs s(Z, Z') + μ mean_views v(Z) + 2 ν mean_views c(Z)

With n < d the covariance term is computed from the n x n matrix of inner products; the result is the same. Under DDP
all terms are those of the whole batch, with exact gradients.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.method import Projected, Scalar
from gcl_custom.methods.multi_crop import over_pairs, over_views
from gcl_custom.methods.whole_batch import whole_batch
from gcl_custom.recipe.methods import VICRegSettings

Projections = Float[Tensor, "n d"]

EPSILON = 1e-4
"""ε of eq. 2, under the root of the variance."""


class VICReg(Projected):
    """The projector and the weighted terms of the loss, in fp32."""

    def __init__(self, backbone: nn.Module, width: int, settings: VICRegSettings) -> None:
        super().__init__(backbone, width, settings)
        self.settings = settings

    def terms(self, z: Sequence[Float[Tensor, "b d"]]) -> dict[str, Scalar]:
        z = [whole_batch(view) for view in z]
        return {
            "invariance": self.settings.invariance * over_pairs(invariance, z),
            "variance": self.settings.variance * over_views(variance, z),
            "covariance": self.settings.covariance * 2 * over_views(covariance, z),
        }


def invariance(z: Projections, z_other: Projections) -> Scalar:
    """s(Z, Z'): mean squared difference (eq. 5, also averaged over d)."""
    return nn.functional.mse_loss(z, z_other)


def variance(z: Projections) -> Scalar:
    """v(Z): how far each number's standard deviation is below 1 (eq. 1-2)."""
    return nn.functional.relu(1 - torch.sqrt(z.var(dim=0) + EPSILON)).mean()


def covariance(z: Projections) -> Scalar:
    """c(Z): squared covariances between different numbers, their sum divided by d (eq. 3-4)."""
    n, d = z.shape
    centred, scale = moderate(z - z.mean(dim=0))
    # The sum of squares of ZᵀZ equals that of ZZᵀ: the smaller one will do.
    product = centred @ centred.T if n < d else centred.T @ centred
    diagonal = centred.square().sum(dim=0)
    return (product.square().sum() - diagonal.square().sum()) / ((n - 1) ** 2 * d) * scale**4


def moderate(z: Projections) -> tuple[Projections, Scalar]:
    """Projections with entries of at most 2^16, whose fourth powers can be added up in fp32, and what they lack.

    That factor is a power of two, so nothing is rounded; it is 1 where all entries are moderate.
    """
    with torch.no_grad():
        exponent = torch.frexp(z.abs().max()).exponent
        scale = torch.ldexp(z.new_ones(()), (exponent - 16).clamp(min=0))
    return z / scale, scale
