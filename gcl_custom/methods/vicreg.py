"""VICReg (Bardes, Ponce and LeCun, arXiv:2105.04906), eq. 6:

    loss = λ s(Z, Z') + μ [v(Z) + v(Z')] + ν [c(Z) + c(Z')]

    n  tiles in the whole batch, over all processes     d  width of a projection

Unlike eq. 5-6, and like the authors' code: s is also averaged over d, and the two variance terms are halved.

Where n < d the covariance term is computed from the n x n matrix of inner products, which is the same number. Under
DDP all terms are those of the whole batch, with exact gradients; batch normalisation inside the networks is of the
whole batch where torch's SyncBatchNorm works (CUDA), and of a process's share on the CPU.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from gcl_custom import recipe

Projections = Float[Tensor, "n d"]
Scalar = Float[Tensor, ""]

EPSILON = 1e-4
"""ε of eq. 2, under the root of the variance."""


class VICReg(nn.Module):
    """The projector and the weighted terms of the loss."""

    def __init__(self, width: int, settings: recipe.VICReg) -> None:
        """Projector for representations of the given width."""
        super().__init__()
        self.settings = settings
        self.projector = projector([width, *settings.projector])

    def forward(self, first: Float[Tensor, "b width"], second: Float[Tensor, "b width"]) -> dict[str, Scalar]:
        """Representations of the two views of each tile -> named terms, whose sum is the loss.

        A batch needs at least two tiles. Projections may be in half precision; the terms are always fp32.
        """
        z, z_other = self.projector(first), self.projector(second)
        with torch.autocast(z.device.type, enabled=False):
            z, z_other = whole_batch(z.float()), whole_batch(z_other.float())
            return {
                "invariance": self.settings.invariance * invariance(z, z_other),
                "variance": self.settings.variance * (variance(z) + variance(z_other)) / 2,
                "covariance": self.settings.covariance * (covariance(z) + covariance(z_other)),
            }


def projector(widths: Sequence[int]) -> nn.Sequential:
    """Linear, batch normalisation, ReLU for each layer but the last, which is linear alone (appendix C.1)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=False))


def invariance(z: Projections, z_other: Projections) -> Scalar:
    """s(Z, Z'): mean squared difference (eq. 5, also averaged over d)."""
    return nn.functional.mse_loss(z, z_other)


def variance(z: Projections) -> Scalar:
    """v(Z): how far each number's standard deviation is below 1 (eq. 1-2)."""
    return nn.functional.relu(1 - torch.sqrt(z.var(dim=0) + EPSILON)).mean()


def covariance(z: Projections) -> Scalar:
    """c(Z): squared covariances between different numbers, their sum divided by d (eq. 3-4)."""
    n, d = z.shape
    centred = z - z.mean(dim=0)
    # The sum of squares of ZᵀZ equals that of ZZᵀ: the smaller one will do.
    product = centred @ centred.T if n < d else centred.T @ centred
    diagonal = centred.square().sum(dim=0)
    return (product.square().sum() - diagonal.square().sum()) / ((n - 1) ** 2 * d)


def whole_batch(z: Float[Tensor, "b d"]) -> Projections:
    """The projections of all processes; as they are where there is one."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered


class _Gather(torch.autograd.Function):
    """Gathers over processes, each with as many tiles, with the gradient that DDP's averaging makes whole.

    Every process computes the same loss from the whole batch, so its gradient at its own tiles is complete without
    communication; it is multiplied by the number of processes, because DDP divides by it.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.share = len(z)
        gathered = [torch.empty_like(z) for _ in range(distributed.get_world_size())]
        distributed.all_gather(gathered, z.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = distributed.get_rank() * ctx.share
        return gradients[0][start : start + ctx.share] * distributed.get_world_size()
