"""Batch normalisation: the statistics of a whole batch that several processes share, and batches that leave none."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gcl_custom.training.processes import count, sum_over


class _Sum(torch.autograd.Function):
    """The sum over processes; gradients are summed over them, too."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return sum_over(values.clone())

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return sum_over(gradients[0].clone())


class _OverProcesses:
    """Batch normalisation with the statistics of the whole batch; each process holds an equal share of it."""

    def forward(self: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:  # type: ignore[misc]
        if not self.training or count() == 1:
            ordinary: Tensor = nn.modules.batchnorm._BatchNorm.forward(self, x)
            return ordinary
        others = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        # At least in fp32: bf16 would lose a small variance.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean: Tensor = _Sum.apply(wide.mean(others)) / count()
        centred = wide - mean.view(shape)
        variance: Tensor = _Sum.apply(centred.square().mean(others)) / count()
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
                numbers = count() * x.numel() // x.shape[1]
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * numbers / max(1, numbers - 1), momentum)
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(x.dtype)


class _BatchNorm1d(_OverProcesses, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_OverProcesses, nn.BatchNorm2d):
    pass


def join_batch_norms(module: nn.Module) -> None:
    """Let every batch normalisation use the statistics of all processes, on any device. Weights keep their names.

    torch's SyncBatchNorm is faster, but needs an accelerator.
    """
    for part in module.modules():
        if type(part) is nn.BatchNorm1d:
            part.__class__ = _BatchNorm1d
        elif type(part) is nn.BatchNorm2d:
            part.__class__ = _BatchNorm2d


@contextmanager
def without_statistics(module: nn.Module) -> Iterator[None]:
    """Batches are normalised as in training, but running statistics and the number of batches stay as they are."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    seen = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, before in zip(counts, seen, strict=True):
            count.copy_(before)
