"""A BigGAN of a few channels, as IC-GAN's public file holds one."""

import math

import torch
from torch import Tensor

CONDITION, EMBEDDED, CHUNK, BOTTOM = 12, 5, 3, 4


CHANNELS, ATTENTION = [(16, 16), (16, 8), (8, 8)], {1}


State = dict[str, Tensor]


def public_state(condition: int = CONDITION) -> State:
    """Random weights under the public names and in the public shapes, and singular vectors that have not settled."""
    draw = torch.Generator().manual_seed(1)
    state: State = {"shared.weight": torch.randn(10, 6, generator=draw)}

    def add(name: str, *shape: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(*shape, generator=draw) / math.prod(shape[1:]) ** 0.5
        state[f"{name}.u0"] = torch.randn(1, shape[0], generator=draw)
        state[f"{name}.sv0"] = torch.rand(1, generator=draw)
        if bias:
            state[f"{name}.bias"] = torch.randn(shape[0], generator=draw)

    def statistics(name: str, channels: int) -> None:
        state[f"{name}.stored_mean"] = torch.randn(channels, generator=draw)
        state[f"{name}.stored_var"] = 0.5 + torch.rand(channels, generator=draw)

    add("shared_feat", EMBEDDED, condition)
    add("linear", CHANNELS[0][0] * BOTTOM**2, CHUNK)
    for i, (entering, leaving) in enumerate(CHANNELS):
        add(f"blocks.{i}.0.conv1", leaving, entering, 3, 3)
        add(f"blocks.{i}.0.conv2", leaving, leaving, 3, 3)
        add(f"blocks.{i}.0.conv_sc", leaving, entering, 1, 1)
        for number, channels in ((1, entering), (2, leaving)):
            add(f"blocks.{i}.0.bn{number}.gain", channels, EMBEDDED + CHUNK, bias=False)
            add(f"blocks.{i}.0.bn{number}.bias", channels, EMBEDDED + CHUNK, bias=False)
            statistics(f"blocks.{i}.0.bn{number}", channels)
        if i in ATTENTION:
            for name, n, m in (("theta", 1, 8), ("phi", 1, 8), ("g", 4, 8), ("o", 8, 4)):
                add(f"blocks.{i}.1.{name}", n * leaving // 8, m * leaving // 8, 1, 1, bias=False)
            state[f"blocks.{i}.1.gamma"] = torch.tensor(0.6)
    last = CHANNELS[-1][1]
    state["output_layer.0.gain"] = torch.rand(last, generator=draw)
    state["output_layer.0.bias"] = torch.randn(last, generator=draw)
    statistics("output_layer.0", last)
    add("output_layer.2", 3, last, 3, 3)
    return state
