"""A small Halton-MaskGIT, as its public file holds one."""

from pathlib import Path

import torch
from torch import Tensor

CODES, GRID, WIDTH, HEADS, DEPTH, CLASSES = 11, 4, 14, 3, 2, 5


INNER, HIDDEN = WIDTH // HEADS * HEADS, 24
"""The width of all heads is not the network's own, as in the public network "small"."""


def public_state(grid: int = GRID) -> dict[str, Tensor]:
    """Random weights under the public names, written out here so that a change of ours shows."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_emb.weight": (CLASSES + 1, WIDTH),
        "tok_emb.weight": (CODES + 1, WIDTH),
        "pos_emb.weight": (grid * grid, WIDTH),
        "reg_tokens.weight": (1, WIDTH),
        "last_norm.norm_final.weight": (WIDTH,),
        "last_norm.norm_final.bias": (WIDTH,),
        "last_norm.mlp.1.weight": (2 * WIDTH, WIDTH),
        "last_norm.mlp.1.bias": (2 * WIDTH,),
        "head.bias": (CODES + 1,),
    }
    for layer in range(DEPTH):
        at = f"transformer.layers.{layer}"
        shapes |= {f"{at}.mlp.1.weight": (6 * WIDTH, WIDTH), f"{at}.mlp.1.bias": (6 * WIDTH,)}
        shapes |= {f"{at}.ln{norm}.weight": (WIDTH,) for norm in (1, 2)}
        shapes |= {f"{at}.attn.{name}.weight": (INNER, WIDTH) for name in ("wq", "wk", "wv")}
        shapes |= {f"{at}.attn.wo.weight": (WIDTH, INNER), f"{at}.ff.w2.weight": (WIDTH, HIDDEN)}
        shapes |= {f"{at}.ff.{name}.weight": (HIDDEN, WIDTH) for name in ("w1", "w3")}
    state = {name: torch.randn(shape) * 0.4 for name, shape in shapes.items()}
    state["head.weight"] = state["tok_emb.weight"]
    return state


def write(path: Path, state: dict[str, Tensor], prefix: str = "module._orig_mod.") -> Path:
    named = {prefix + name: value for name, value in state.items()}
    torch.save({"iter": 7, "global_epoch": 1, "model_state_dict": named, "optimizer_state_dict": {"step": 3}}, path)
    return path
