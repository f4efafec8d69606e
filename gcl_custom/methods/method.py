"""What the training loop asks of a contrastive method, and what it offers.

b  tiles in the batch of this process     s  side of a view     width  of a representation
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Scalar = Float[Tensor, ""]


def full(values: Tensor) -> Tensor:
    """Half precision to fp32, in which all losses are computed."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Method(nn.Module, ABC):
    """Heads and loss terms. Whatever it learns or remembers is in its state, so that a resumed run is exact."""

    @abstractmethod
    def forward(
        self,
        representations: Sequence[Float[Tensor, "b width"]],
        views: Sequence[Float[Tensor, "b c _s _s"]],
        share_done: float,
    ) -> dict[str, Scalar]:
        """Named terms, whose sum is the loss.

        Args:
            representations: of the two large views and, where the recipe has them, of the small crops.
            views: what was represented, for methods with a network of their own.
            share_done: of the run, from 0 to 1.
        """

    def follow(self, backbone: nn.Module, share_done: float) -> None:
        """Called after each step of the optimizer: where a teacher moves. Most methods have none."""
        return

    def kept(self, backbone: nn.Module) -> nn.Module:
        """The backbone that training is for: the trained one, or a teacher's."""
        return backbone
