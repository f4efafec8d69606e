"""A small tokenizer of MAGE, as the two public files hold one."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from families import PublicState
from torch import Tensor

CODES, WIDTH, STEM, LEVELS = 13, 6, 32, (32, 64)
"""A small one: three levels less than the public network's (128, 128, 256, 256, 512)."""


def tokenizer_state(levels: Sequence[int] = LEVELS, codes: int = CODES) -> dict[str, Tensor]:
    """Random weights under the names of MAGE's file."""
    torch.manual_seed(0)
    state, deepest = PublicState(), len(levels) - 1

    def residual(name: str, enter: int, leave: int) -> None:
        state.norm(f"{name}.norm1", enter)
        state.conv(f"{name}.conv1", enter, leave, 3, bias=False)
        state.norm(f"{name}.norm2", leave)
        state.conv(f"{name}.conv2", leave, leave, 3, bias=False)
        if enter != leave:
            state.conv(f"{name}.nin_shortcut", leave, leave, 1, bias=False)

    state.conv("encoder.conv_in", 3, STEM, 3, bias=False)
    for level, (enter, leave) in enumerate(itertools.pairwise((STEM, *levels))):
        residual(f"encoder.down.{level}.block.0", enter, leave)
        residual(f"encoder.down.{level}.block.1", leave, leave)
    state.conv("decoder.conv_in", WIDTH, levels[-1], 3)
    for half, last in (("encoder", levels[-1]), ("decoder", levels[0])):
        residual(f"{half}.mid.block_1", levels[-1], levels[-1])
        residual(f"{half}.mid.block_2", levels[-1], levels[-1])
        state.norm(f"{half}.norm_out", last)
    state.conv("encoder.conv_out", levels[-1], WIDTH, 1)
    for level in range(deepest, -1, -1):
        residual(f"decoder.up.{level}.block.0", levels[min(level + 1, deepest)], levels[level])
        residual(f"decoder.up.{level}.block.1", levels[level], levels[level])
        if level:
            state.conv(f"decoder.up.{level}.upsample.conv", levels[level], levels[level], 3)
    state.conv("decoder.conv_out", levels[0], 3, 3)
    state["quantize.embedding.weight"] = torch.randn(codes, WIDTH)
    return dict(state)  # plain, as it is saved


def save_mage(path: Path, state: dict[str, Tensor]) -> Path:
    """As MAGE lays it out: under ``vqgan.`` beside the transformer."""
    transformer = {"token_emb.LayerNorm.weight": torch.ones(4), "blocks.0.norm1.bias": torch.ones(4)}
    unused = {"cls_token": torch.ones(1, 1, 4), "token_emb.position_ids": torch.arange(5)[None]}
    inside = {f"vqgan.{name}": value for name, value in state.items()}
    torch.save({"model": {**unused, **inside, **transformer}, "epoch": 3}, path)
    return path


def save_titok(path: Path, state: dict[str, Tensor]) -> Path:
    """As TiTok lays it out: a plain state dict with other names for the middle and for the upsampling."""
    renamed = {re.sub(r"mid\.block_1", "mid.0", re.sub(r"mid\.block_2", "mid.1", name)): name for name in state}
    torch.save({name.replace("upsample.conv", "upsample_conv"): state[old] for name, old in renamed.items()}, path)
    return path
