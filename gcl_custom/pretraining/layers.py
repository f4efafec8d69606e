"""The layers of a backbone, as timm divides it: which are trained, and how fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from gcl_custom.counted import counted
from gcl_custom.errors import UserError
from gcl_custom.pretraining.backbones import within


def layers(backbone: nn.Module, name: str) -> list[list[Tensor]]:
    """The parameters of each layer, from the stem to the last.

    A layer is what timm counts as one for layer-wise learning rates: a block, or the stem.

    Raises:
        UserError: timm does not divide this network.
    """
    network: Any = within(backbone)
    if not hasattr(network, "group_matcher"):
        raise UserError(
            f"pretrain.layer_decay, trained_layers: timm does not divide {name} into layers. Leave both keys out, or "
            f"choose another pretrain.backbone"
        )
    groups = group_parameters(network, network.group_matcher(coarse=False))
    parameters = dict(network.named_parameters())  # get_parameter would find the weights of folded norms
    return [[parameters[parameter] for parameter in groups[key]] for key in sorted(groups)]


def train_last(backbone: nn.Module, name: str, count: int) -> None:
    """Fix all layers but the last ones.

    Raises:
        UserError: the network has fewer layers, or timm does not divide it.
    """
    found = layers(backbone, name)
    if count > len(found):
        raise UserError(
            f"pretrain.trained_layers is {count}, but {name} has {counted(len(found), 'layer')}. Take at most so many"
        )
    for parameter in (parameter for layer in found[: len(found) - count] for parameter in layer):
        parameter.requires_grad_(False)


def shares(backbone: nn.Module, name: str, decay: float) -> dict[Tensor, float]:
    """Each parameter's share of the learning rate: 1 in the last layer, ``decay`` in the one before, and so on.

    Raises:
        UserError: timm does not divide this network.
    """
    found = layers(backbone, name)
    return {parameter: decay ** (len(found) - 1 - i) for i, layer in enumerate(found) for parameter in layer}


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Without gradients and in evaluation mode, so that nothing of the network changes; afterwards as before."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    with torch.no_grad():
        yield
    for part, mode in modes.items():
        part.training = mode
