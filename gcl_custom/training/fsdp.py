"""A network that is too large for one device: its weights, gradients and optimizer's state are shared out (FSDP).

Each process holds an equal part of every tensor. The whole of a layer is there only while that layer computes; its
gradients are averaged over processes, and each keeps its own part of them (Rajbhandari et al., arXiv:1910.02054, stage
3). torch's ``fully_shard`` does this. Lightning's FSDP strategy is not used, since it runs on GPUs alone.

Files hold whole tensors, which the first process gathers one at a time. So a checkpoint is one file that is there whole
or not at all, and training may go on with another number of processes, or without FSDP.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Large:
    """The networks of a training that may be too large for one device. They have the same parameters."""

    trained: nn.Module
    """Its method ``loss`` is what a step calls. Each layer in a ModuleList is gathered by itself."""
    followers: tuple[nn.Module, ...]
    """Averages and copies of it, which have no gradients."""
    evaluated: nn.Module
    """The one of them that evaluations look at."""


def share_out(large: Large, device: torch.device) -> None:
    """Leave to each process its part of these networks, on its device. All processes call it, with equal weights."""
    # Here, since these modules take half a second to import.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    layers = [part for part in large.trained.modules() if isinstance(part, nn.ModuleList)]
    for layer in (layer for several in layers for layer in several):
        fully_shard(layer, mesh=mesh)
    fully_shard(large.trained, mesh=mesh)
    register_fsdp_forward_method(large.trained, "loss")
    for follower in large.followers:
        for part in follower.modules():
            for name, weight in part.named_parameters(recurse=False):
                shared = distribute_tensor(weight.detach(), mesh, [Shard(0)])
                setattr(part, name, nn.Parameter(shared, requires_grad=False))


@contextmanager
def gathered(network: nn.Module, here: bool) -> Iterator[None]:
    """Give a network whole weights meanwhile, in those processes that ask for it. All processes enter together.

    Changes of the weights are lost.
    """
    parts: list[tuple[nn.Module, str, Tensor]] = []
    for part in network.modules():
        for name, weight in part.named_parameters(recurse=False):
            found = whole(weight.detach())
            if here:
                parts.append((part, name, weight))
                setattr(part, name, nn.Parameter(found, requires_grad=False))
    try:
        yield
    finally:
        for part, name, shared in parts:
            setattr(part, name, shared)


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor that is shared out; another one as it is. All processes call it together."""
    gather = getattr(value, "full_tensor", None)
    return gather() if gather else value


def whole_state(state: Any, here: bool) -> Any:
    """A state dict with whole tensors on the CPU, in those processes that ask for it. All processes call it together.

    Args:
        state: tensors, shared out or not, in nested dicts and lists.
    """
    if isinstance(state, dict):
        return {key: whole_state(value, here) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_state(value, here) for value in state)
    if not hasattr(state, "full_tensor"):
        return state
    found = whole(state)
    return found.cpu() if here else None


def load_weights(network: nn.Module, state: dict[str, Any]) -> None:
    """Load whole tensors, and the extra state of modules, into a network whose weights may be shared out."""
    here = network.state_dict()
    parts = {
        name: _part_as(here.get(name), value) if isinstance(value, Tensor) else value for name, value in state.items()
    }
    network.load_state_dict(parts)


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load a state of whole tensors into an optimizer of weights that may be shared out."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    of_weights = {
        number: {
            name: _part_as(weights[number], value) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": of_weights})


def _part_as(like: Tensor | None, value: Tensor) -> Tensor:
    """A whole tensor, shared out as another one of its shape is. A number is copied, since its file may be mapped."""
    if like is None or like.shape != value.shape or not hasattr(like, "full_tensor"):
        return value if value.ndim else value.clone()
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value, like.device_mesh, like.placements)
