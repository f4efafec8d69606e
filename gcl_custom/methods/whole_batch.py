"""Losses of the whole batch where each process holds a share of it.

n  tiles in the whole batch, over all processes     b  in the batch of one     d  width of a projection
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from gcl_custom.training import processes


def own_share(whole: Float[Tensor, "n d"]) -> Float[Tensor, "b d"]:
    """The rows that belong to this process."""
    return whole.chunk(processes.count())[processes.rank()]


def whole_batch(z: Float[Tensor, "b d"]) -> Float[Tensor, "n d"]:
    """The projections of all processes; with one process they are returned as they are."""
    if processes.count() == 1:
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered


class _Gather(torch.autograd.Function):
    """Gathers the equal shares of all processes. DDP's average of the gradients is then that of the whole batch.

    Every process computes the same loss from the whole batch, so its gradient at its own tiles is complete without
    communication. It is multiplied by the number of processes, because DDP divides by that.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        gathered = [torch.empty_like(z) for _ in range(processes.count())]
        distributed.all_gather(gathered, z.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return own_share(gradients[0]) * processes.count()


def mean_of_shares(share: Tensor) -> Tensor:
    """The mean over processes of what each computed as a mean over its own equal share of the batch."""
    if processes.count() == 1:
        return share
    mean: Tensor = _MeanOfShares.apply(share)
    return mean


class _MeanOfShares(torch.autograd.Function):
    """The mean over processes. DDP's average of the gradients is then that of the whole batch.

    Every process computes the same loss from the mean. A share's gradient would be that of the mean, divided by the
    number of processes, but DDP divides by it.
    """

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        return processes.sum_over(share.clone()) / processes.count()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]
