"""The interface between the training loop and a contrastive method, and what methods of a projector alone share.

b  tiles in the batch of this process     s  side of a view     width  of a representation     d  of a projection
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.methods.heads import projector

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


@runtime_checkable
class WithProjector(Protocol):
    """The part of a method's settings that is read here."""

    projector: list[int]
    """Widths of its layers."""


class Projected(Method):
    """A projector, and terms of the views' projections, in fp32."""

    def __init__(self, backbone: nn.Module, width: int, settings: WithProjector) -> None:
        super().__init__()
        self.projector = projector([width, *settings.projector])

    def forward(
        self, representations: Sequence[Tensor], views: Sequence[Tensor], share_done: float
    ) -> dict[str, Scalar]:
        projections = [self.projector(representation) for representation in representations]
        with torch.autocast(projections[0].device.type, enabled=False):
            return self.terms([full(projection) for projection in projections])

    @abstractmethod
    def terms(self, z: Sequence[Float[Tensor, "b d"]]) -> dict[str, Scalar]:
        """Named terms, whose sum is the loss.

        Args:
            z: projections of the two large views, then of the small crops, if any.
        """
