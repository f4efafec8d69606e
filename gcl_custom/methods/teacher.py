"""A teacher: a copy of the student that follows it by a moving average and learns nothing by itself."""

import copy

import torch
from torch import Tensor, nn

from gcl_custom.schedules import cosine


class Teacher(nn.Module):
    """A copy of a network, moved only by ``follow``.

    As in the public code of BYOL and DINO, only learnt weights are averaged: batch normalisation in the copy uses the
    statistics of its own batches and keeps its own running ones.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Every weight becomes momentum * itself + (1 - momentum) * the student's."""
        own: list[Tensor] = list(self.net.parameters())
        theirs: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(own, theirs, 1 - momentum)


def rising(momentum: float, share_done: float) -> float:
    """The teacher's momentum, which rises from its first value to 1 by a cosine (arXiv:2006.07733, section 3.2)."""
    return 1 - (1 - momentum) * cosine(share_done, 1.0)
