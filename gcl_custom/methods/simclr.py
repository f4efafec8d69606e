"""SimCLR (Chen et al., arXiv:2002.05709), eq. 1, NT-Xent:

    loss = mean over all 2n views i of  -log( exp(s_ij / τ) / Σ_k≠i exp(s_ik / τ) )

where s is the cosine similarity of two projections and j the other view of i's tile. With small crops the loss is the
mean over pairs of a large view and another view (see ``multi_crop``), each pair with the 2n views of its own.

    n  tiles in the whole batch, over all processes     d  width of a projection

Under DDP the negatives are those of the whole batch, with exact gradients.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.method import Projected, Scalar
from gcl_custom.methods.multi_crop import over_pairs
from gcl_custom.methods.whole_batch import whole_batch
from gcl_custom.recipe.methods import SimCLRSettings


class SimCLR(Projected):
    """The projector and the loss."""

    def __init__(self, backbone: nn.Module, width: int, settings: SimCLRSettings) -> None:
        super().__init__(backbone, width, settings)
        self.settings = settings

    def terms(self, z: Sequence[Float[Tensor, "b d"]]) -> dict[str, Scalar]:
        z = [whole_batch(view) for view in z]
        return {"contrast": over_pairs(partial(nt_xent, temperature=self.settings.temperature), z)}


def nt_xent(z: Float[Tensor, "n d"], z_other: Float[Tensor, "n d"], temperature: float) -> Scalar:
    """Cross-entropy of finding the other view of a tile among all other views."""
    n = len(z)
    views = F.normalize(torch.cat([z, z_other]), dim=1)
    logits = views @ views.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)
