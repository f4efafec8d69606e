"""SwAV (Caron et al., arXiv:2006.09882), eq. 1-5:

    loss = mean over pairs of a large view x and another view x' of  - Σ_k  q(x)_k log softmax(z(x')ᵀ c / τ)_k

where c are prototypes of length 1, and q assigns the large views of a batch to them evenly, by Sinkhorn's iteration on
exp(zᵀ c / ε).

    b  tiles in the batch of this process     n  tiles in the whole batch, over all processes     l  tiles in the queue
    d  width of a projection     k  prototypes

Under DDP the assignment is that of the whole batch: each process computes it and takes its own tiles' part.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.cross_entropy import cross_entropy
from gcl_custom.methods.heads import projector
from gcl_custom.methods.method import Method, Scalar, full
from gcl_custom.methods.whole_batch import own_share, whole_batch
from gcl_custom.recipe.methods import SwavSettings


class SwAV(Method):
    """Projector, prototypes and the queue of earlier projections."""

    queue: Float[Tensor, "2 l d"]
    queued: Tensor

    def __init__(self, backbone: nn.Module, width: int, settings: SwavSettings) -> None:
        super().__init__()
        self.settings, d = settings, settings.projector[-1]
        self.projector = projector([width, *settings.projector])
        self.prototypes = nn.Parameter(F.normalize(torch.randn(settings.prototypes, d), dim=1))
        self.register_buffer("queue", torch.zeros(2, settings.queue, d))
        self.register_buffer("queued", torch.tensor(0))

    def forward(
        self, representations: Sequence[Tensor], views: Sequence[Tensor], share_done: float
    ) -> dict[str, Scalar]:
        settings = self.settings
        projections = [self.projector(representation) for representation in representations]
        with torch.autocast(projections[0].device.type, enabled=False):
            z = [F.normalize(full(projection), dim=1) for projection in projections]
            prototypes = self.prototypes.detach() if share_done < settings.frozen else self.prototypes
            logp = torch.stack([(view @ prototypes.T / settings.temperature).log_softmax(dim=1) for view in z])
            wanted = torch.stack([self._assigned(view.detach(), place, share_done) for place, view in enumerate(z[:2])])
            return {"swapped_prediction": cross_entropy(wanted, logp)}

    @torch.no_grad()
    def _assigned(self, z: Float[Tensor, "b d"], place: int, share_done: float) -> Float[Tensor, "b k"]:
        """The assignment of a large view. The full queue of its place takes part, and then takes up the view."""
        whole, full = whole_batch(z), bool(self.queued >= self.settings.queue)
        joining = share_done >= self.settings.queue_from and full
        seen = torch.cat([whole, self.queue[place]]) if joining else whole
        assigned = sinkhorn(seen @ self.prototypes.T, self.settings.epsilon, self.settings.sinkhorn_iterations)
        if self.training and self.settings.queue:
            self.queue[place] = torch.cat([whole, self.queue[place]])[: self.settings.queue]
            if place == 1:
                self.queued += len(whole)
        return own_share(assigned[: len(whole)])

    @torch.no_grad()
    def follow(self, backbone: nn.Module, share_done: float) -> None:
        """Bring the prototypes back to length 1."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))


def sinkhorn(scores: Float[Tensor, "m k"], epsilon: float, iterations: int) -> Float[Tensor, "m k"]:
    """The assignment of eq. 3-5: rows sum to 1, and columns have nearly equal sums."""
    logs = scores.double() / epsilon  # in logarithms, so that a small epsilon neither overflows nor empties a prototype
    for _ in range(iterations):
        logs = logs.log_softmax(dim=0)
        logs = logs.log_softmax(dim=1)
    return logs.exp().to(scores.dtype)
