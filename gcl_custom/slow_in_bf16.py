"""Layers whose backward pass is slow in bf16 on a CPU, and what is computed instead.

oneDNN's backward pass of a depthwise convolution takes several times as long in bf16 as in fp32, so a network of them
gains from bf16 only if they are left out of it. torch's fused attention takes a third of a training step of ViT-Tiny,
which is 1.3 to 1.4 times as fast with attention written out (17 to 257 tokens). Passes without a gradient stay as they
are.
"""

from typing import Any

import torch
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

WRITTEN_OUT = 257
"""Most tokens of an attention that is written out, those of 256 px in patches of 16: beyond, its weights take too much
memory."""


def _slow(x: Tensor) -> bool:
    """Whether what is computed from x has a gradient in bf16 on a CPU."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether each output channel sees a single input channel."""
    return convolution.groups == convolution.in_channels > 1


class DepthwiseConv2d(nn.Conv2d):
    """A convolution that computes in fp32, also under autocast, where a gradient follows on a CPU."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _ _"]:
        if _slow(x):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class DepthwiseConv2dSame(DepthwiseConv2d, Conv2dSame):
    """The same with TensorFlow's padding."""


KINDS: dict[type[nn.Module], type[DepthwiseConv2d]] = {
    nn.Conv2d: DepthwiseConv2d,
    Conv2dSame: DepthwiseConv2dSame,
}


def avoid_slow_kernels(network: nn.Module) -> None:
    """Give a network's depthwise convolutions the kinds of this module, and let timm's attention be written out where
    that is faster. Weights keep their names."""
    for module in network.modules():
        if type(module) in KINDS and isinstance(module, nn.Conv2d) and is_depthwise(module):
            module.__class__ = KINDS[type(module)]
        elif getattr(module, "fused_attn", False):
            module.register_forward_pre_hook(_choose_attention)


def _choose_attention(attention: Any, given: tuple[Any, ...]) -> None:
    """Before a pass. Of maps, whose tokens are not counted along one axis, attention stays fused."""
    x = given[0]
    attention.fused_attn = not (_slow(x) and x.ndim == 3 and x.shape[1] <= WRITTEN_OUT)
