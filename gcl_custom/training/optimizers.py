"""Optimizers from recipe settings, LARS among them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from gcl_custom.recipe.pretraining import LarsSettings, OptimizerSettings

BASE_BATCH = 256
"""Learning rates of recipes are for this batch (Goyal et al., arXiv:1706.02677, section 2.1)."""


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg, arXiv:1708.03888, algorithm 1).

        g ← g + β w;   g ← g · η ‖w‖ / ‖g‖ in adaptive groups;   v ← m v + g;   w ← w - lr v

    As in the VICReg authors' code, the trust ratio's denominator is the norm of the decayed gradient, not
    ‖g‖ + β ‖w‖ (eq. 6), and the learning rate stands outside the momentum.

    Args:
        params: parameters or groups; a group with ``adaptive=False`` is plain SGD with momentum.
        weight_decay: β.
        trust: η.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float = 0.001,
        adaptive: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adaptive": adaptive}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what the closure, if any, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """One group, with the operations on lists of tensors that torch's own optimizers use."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["adaptive"]:
            w, g = (torch.stack(list(torch._foreach_norm(tensors))) for tensors in (weights, gradients))
            ratios = torch.where((w > 0) & (g > 0), group["trust"] * w / g, 1.0)
            gradients = list(torch._foreach_mul(gradients, list(ratios.unbind())))
        for weight in weights:
            if "velocity" not in self.state[weight]:
                self.state[weight]["velocity"] = torch.zeros_like(weight)
        velocities = [self.state[weight]["velocity"] for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(weights, velocities, alpha=-group["lr"])


def make(settings: OptimizerSettings, module: nn.Module, batch: int) -> Optimizer:
    """The optimizer of a recipe. Its learning rate is scaled linearly from a batch of 256 to the given one.

    Biases and the weights of normalisation, which have one axis, are exempt from weight decay and from LARS's
    adaptation; under AdamW so are the parameters that timm exempts, from weight decay. LARS goes by axes alone, as the
    authors of VICReg and Barlow Twins do.
    """
    rate = settings.learning_rate * batch / BASE_BATCH
    if isinstance(settings, LarsSettings):
        matrices, vectors = without_decay(module)
        groups = [matrices, vectors | {"adaptive": False}]
        return LARS(groups, rate, settings.momentum, settings.weight_decay)
    groups = without_decay(module, with_one_axis(module) | exempt_in_timm(module))
    return torch.optim.AdamW(groups, rate, weight_decay=settings.weight_decay, fused=True)


def without_decay(module: nn.Module, exempt: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Two groups of trained parameters: those with weight decay, and those without.

    Args:
        exempt: names of those without; by default, those with one axis.
    """
    exempt = with_one_axis(module) if exempt is None else exempt
    trained = [(name in exempt, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    decayed, free = ([weight for is_exempt, weight in trained if is_exempt is group] for group in (False, True))
    return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]


def with_one_axis(module: nn.Module) -> set[str]:
    """Names of the parameters with one axis: biases, and the weights of normalisation."""
    return {name for name, weight in module.named_parameters() if weight.ndim <= 1}


def exempt_in_timm(module: nn.Module) -> set[str]:
    """Names of the parameters that networks of timm within a module exempt: positions, tokens, tables of biases."""
    return {
        f"{place}.{name}" if place else name
        for place, part in module.named_modules()
        if callable(stated := getattr(part, "no_weight_decay", None))
        for name in stated()
    }


def slow(optimizer: Optimizer, shares: Mapping[Tensor, float]) -> None:
    """Give parameters a share of their group's learning rate, before the first step. Groups are split for it."""
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        parts: dict[float, list[Tensor]] = {}
        for parameter in group["params"]:
            parts.setdefault(shares.get(parameter, 1.0), []).append(parameter)
        groups += [{**group, "params": some, "lr": share * group["lr"]} for share, some in parts.items()]
    optimizer.param_groups[:] = groups
