"""A small tokenizer of LlamaGen, as its public file holds one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from families import PublicState
from torch import Tensor

CODES, CODE_WIDTH, CHANNELS, WIDTHS, BLOCKS, INNER = 37, 4, 32, [32, 64, 64], 2, 8
"""Three levels in place of five, so one token for 4x4 pixels; the channels change once, as in the public file."""


def public_state(widths: Sequence[int] = WIDTHS, codes: int = CODES) -> dict[str, Tensor]:
    """Random weights under the public names, written out here so that a change of ours shows."""
    torch.manual_seed(0)
    state, deepest = PublicState(), len(widths) - 1

    def middle(name: str) -> None:
        state.residual(f"{name}.0", widths[-1], widths[-1])
        state.attention(f"{name}.1", widths[-1])
        state.residual(f"{name}.2", widths[-1], widths[-1])

    state.conv("encoder.conv_in", 3, CHANNELS, 3)
    now = CHANNELS
    for level, width in enumerate(widths):
        for block in range(BLOCKS):
            state.residual(f"encoder.conv_blocks.{level}.res.{block}", now, width)
            now = width
            if level == deepest:
                state.attention(f"encoder.conv_blocks.{level}.attn.{block}", width)
        if level < deepest:
            state.conv(f"encoder.conv_blocks.{level}.downsample.conv", width, width, 3)
    middle("encoder.mid")
    state.norm("encoder.norm_out", now)
    state.conv("encoder.conv_out", now, INNER, 3)
    state.conv("quant_conv", INNER, CODE_WIDTH, 1)
    state["quantize.embedding.weight"] = torch.randn(codes, CODE_WIDTH)
    state["quantize.codebook_used"] = torch.zeros(65536)
    state.conv("post_quant_conv", CODE_WIDTH, INNER, 1)
    state.conv("decoder.conv_in", INNER, now, 3)
    middle("decoder.mid")
    for number, width in enumerate(reversed(widths)):
        for block in range(BLOCKS + 1):
            state.residual(f"decoder.conv_blocks.{number}.res.{block}", now, width)
            now = width
            if number == 0:
                state.attention(f"decoder.conv_blocks.0.attn.{block}", width)
        if number < deepest:
            state.conv(f"decoder.conv_blocks.{number}.upsample.conv", width, width, 3)
    state.norm("decoder.norm_out", now)
    state.conv("decoder.conv_out", now, 3, 3)
    return dict(state)  # plain, as it is saved


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"model": state}, path)
    return path
