"""The interface between the training loop and a contrastive method.

b  tiles in the batch of this process     s  side of a view     width  of a representation
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Scalar = Float[Tensor, ""]


def full(values: Tensor) -> Tensor:
    """Half precision becomes fp32: all losses are computed in it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Method(nn.Module, ABC):
    """Heads and loss terms. Its state holds whatever it learns or remembers, so a resumed run is exact."""

    @abstractmethod
    def forward(
        self,
        representations: Sequence[Float[Tensor, "b width"]],
        views: Sequence[Float[Tensor, "b c _s _s"]],
        share_done: float,
    ) -> dict[str, Scalar]:
        """Named terms, whose sum is the loss.

        Args:
            representations: of the two large views, then of the small crops, if any.
            views: the views themselves, for methods with a network of their own.
            share_done: of the run, from 0 to 1.
        """

    def follow(self, backbone: nn.Module, share_done: float) -> None:
        """Called after each step of the optimizer. A teacher moves here; most methods have none."""
        return

    def kept(self, backbone: nn.Module) -> nn.Module:
        """The backbone to keep: the trained one, or a teacher's."""
        return backbone
