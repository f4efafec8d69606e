"""LeJEPA (Balestriero and LeCun, arXiv:2511.08544):

    loss = (1 - λ) P + λ S
    P = mean over views of  ‖z - μ‖² / d,    μ = mean of the large views' projections of the tile
    S = mean over views and directions a of  n ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt
    φ(t) = mean over tiles of exp(i t a·z)

All views, small crops included, predict the mean of the large ones. S, called SIGReg, keeps projections from collapse:
it is the test of Epps and Pulley (Biometrika, 1983) whether they are standard normal along random directions. There is
neither a teacher nor a stopped gradient.

As in the authors' code, the integral is a trapezoidal rule over [-3, 3], with 17 points on one side since it is
symmetric, and P is also averaged over d. S of normal projections does not depend on n, and that of others grows with n,
so a larger batch gives it more weight.

    b  tiles in the batch of this process     n  tiles in the whole batch, over all processes
    d  width of a projection     k  directions     p  points of the integral

Directions are drawn anew at each step, the same in all processes. Under DDP φ is that of the whole batch, with exact
gradients.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.methods.method import Projected, Scalar
from gcl_custom.methods.multi_crop import LARGE, over_views
from gcl_custom.methods.whole_batch import mean_of_shares
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.methods import LeJEPASettings
from gcl_custom.training import processes

POINTS, FARTHEST = 17, 3.0
"""Of the integral, from 0 on."""


class LeJEPA(Projected):
    """The projector and the two terms."""

    drawn: Int[Tensor, ""]
    """The number of the next direction. It begins at random, so that seeds differ."""

    def __init__(self, backbone: nn.Module, width: int, settings: LeJEPASettings) -> None:
        super().__init__(backbone, width, settings)
        self.settings = settings
        self.register_buffer("drawn", torch.randint(2**40, ()))

    def terms(self, z: Sequence[Float[Tensor, "b d"]]) -> dict[str, Scalar]:
        views = torch.stack(list(z))
        test = partial(sigreg, directions=self._directions(views))
        return {
            "prediction": (1 - self.settings.regularisation) * (views - views[:LARGE].mean(0)).square().mean(),
            "sigreg": self.settings.regularisation * over_views(test, z),
        }

    def _directions(self, z: Float[Tensor, "_v _b d"]) -> Float[Tensor, "k d"]:
        """Those of this step; in training, the next step has others."""
        numbers = self.drawn + torch.arange(self.settings.slices, device=z.device)
        if self.training:
            self.drawn += self.settings.slices
        normal = Randomness(0, "lejepa", 0, numbers).normal("direction", z.shape[-1])
        return F.normalize(normal.to(z.dtype), dim=1)


def sigreg(z: Float[Tensor, "b d"], directions: Float[Tensor, "k d"]) -> Scalar:
    """S of one view."""
    return epps_pulley(z @ directions.T).mean()


def epps_pulley(x: Float[Tensor, "b k"]) -> Float[Tensor, " k"]:
    """How far each column of the whole batch is from the standard normal distribution.

    It is √(2π) (1 - 1/√3), about 1.06, in the mean over normal columns of any length.
    """
    t = torch.linspace(0, FARTHEST, POINTS, dtype=x.dtype, device=x.device)
    angles = x[:, :, None] * t
    real, imaginary = mean_of_shares(torch.stack([angles.cos().mean(0), angles.sin().mean(0)]))
    normal = torch.exp(-t.square() / 2)
    gap: Float[Tensor, "k p"] = (real - normal).square() + imaginary.square()
    return len(x) * processes.count() * 2 * torch.trapezoid(gap * normal, t)
