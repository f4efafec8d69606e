"""Depthwise convolutions, which train faster in fp32 than in bf16 on a CPU.

oneDNN's backward pass of a depthwise convolution takes several times as long in bf16 as in fp32, so a network of them
gains from bf16 only if they are left out of it. Forward passes without a gradient are faster in bf16, and stay.
"""

import torch
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether each output channel sees a single input channel."""
    return convolution.groups == convolution.in_channels > 1


class DepthwiseConv2d(nn.Conv2d):
    """A convolution that computes in fp32, also under autocast, where a gradient follows on a CPU."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _ _"]:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class DepthwiseConv2dSame(DepthwiseConv2d, Conv2dSame):
    """The same with TensorFlow's padding."""


KINDS: dict[type[nn.Module], type[DepthwiseConv2d]] = {
    nn.Conv2d: DepthwiseConv2d,
    Conv2dSame: DepthwiseConv2dSame,
}


def train_depthwise_in_fp32(network: nn.Module) -> None:
    """Give a network's depthwise convolutions the kinds of this module. Their weights keep their names."""
    for module in network.modules():
        if type(module) in KINDS and isinstance(module, nn.Conv2d) and is_depthwise(module):
            module.__class__ = KINDS[type(module)]
