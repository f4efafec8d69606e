"""A small MAGE, as its public file holds one."""

from pathlib import Path

import torch
from families import PublicState
from torch import Tensor

CODES, GRID, WIDTH, DEPTH, HEADS = 83, 4, 24, 3, 3


DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 32, 2, 4
"""Widths of encoder and decoder differ here, unlike in the public networks, so that none is taken for the other."""


VOCABULARY = CODES + 1000 + 1


def transformer_state(grid: int = GRID) -> dict[str, Tensor]:
    """Random weights of the transformer under the names of the public file."""
    torch.manual_seed(0)
    state = PublicState(
        {
            "token_emb.word_embeddings.weight": torch.randn(VOCABULARY, WIDTH),
            "token_emb.position_embeddings.weight": torch.randn(grid**2 + 1, WIDTH),
            "decoder_pos_embed_learned": torch.randn(1, grid**2 + 1, DECODER_WIDTH),
            "mlm_layer.bias": torch.randn(1, 1, VOCABULARY),
        }
    )

    for blocks, depth, width in (("blocks", DEPTH, WIDTH), ("decoder_blocks", DECODER_DEPTH, DECODER_WIDTH)):
        for i in range(depth):
            state.norm(f"{blocks}.{i}.norm1", width)
            state.linear(f"{blocks}.{i}.attn.qkv", width, 3 * width)
            state.linear(f"{blocks}.{i}.attn.proj", width, width)
            state.norm(f"{blocks}.{i}.norm2", width)
            state.linear(f"{blocks}.{i}.mlp.fc1", width, 4 * width)
            state.linear(f"{blocks}.{i}.mlp.fc2", 4 * width, width)
    state.norm("token_emb.LayerNorm", WIDTH)
    state.norm("norm", WIDTH)
    state.linear("decoder_embed", WIDTH, DECODER_WIDTH)
    state.norm("decoder_norm", DECODER_WIDTH)
    state.linear("mlm_layer.fc", DECODER_WIDTH, WIDTH)
    state.norm("mlm_layer.ln", WIDTH)
    return dict(state)  # plain, as it is saved


def public_state(grid: int = GRID) -> dict[str, Tensor]:
    """With what else a MAGE checkpoint holds: its tokenizer, and parts of its code that compute no token."""
    return {
        "cls_token": torch.zeros(1, 1, WIDTH),
        "pos_embed": torch.zeros(1, grid**2 + 1, WIDTH),
        "mask_token": torch.zeros(1, 1, DECODER_WIDTH),
        "decoder_pos_embed": torch.zeros(1, grid**2 + 1, DECODER_WIDTH),
        "vqgan.encoder.conv_in.weight": torch.zeros(32, 3, 3, 3),
        "vqgan.quantize.embedding.weight": torch.zeros(CODES, 6),
        "token_emb.position_ids": torch.arange(grid**2 + 1)[None],
        "patch_embed.proj.weight": torch.zeros(WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": torch.zeros(WIDTH),
        "decoder_pred.weight": torch.zeros(768, DECODER_WIDTH),
        "decoder_pred.bias": torch.zeros(768),
        **transformer_state(grid),
    }


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"model": state, "epoch": 1599, "scaler": {"scale": 65536.0}}, path)
    return path
