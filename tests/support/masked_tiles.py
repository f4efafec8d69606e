"""Small imagery with masks: bright blocks on a dark ground, and whatever is scored on it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from written_index import write_lists

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.label_kinds import MASKS
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run


def blocks(count: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n h w 3) and masks (n h w): the block is brighter in the second band, but not in the first."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), dtype=np.uint8)
    for mask in masks:
        top, left = rng.integers(0, side // 2, 2)
        mask[top : top + side // 2, left : left + side // 2] = 1
    pictures = rng.integers(0, 100, (count, side, side, 3))
    pictures[..., 1] += 100 * masks
    return pictures.astype(np.uint8), masks


def draw(root: Path, count: int = 24, side: int = 16) -> Path:
    """Files of blocks: images/NN.png beside masks/NN.png; the last two have no mask."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, (picture, mask) in enumerate(zip(*blocks(count, side), strict=True)):
        Image.fromarray(picture).save(root / "images" / f"{number:02d}.png")
        if number < count - 2:
            Image.fromarray(mask).save(root / "masks" / f"{number:02d}.png")
    return root


def store_in(folder: Path, count: int = 24, side: int = 16, ignored: float = 0.0) -> TileStore:
    """A store of blocks, split 4 : 1 : 1, with a share of pixels that have no class."""
    pictures, masks = blocks(count, side)
    masks[np.random.default_rng(1).random(masks.shape) < ignored] = 255
    np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).tofile(folder / "tiles-00000.bin")
    masks.tofile(folder / "masks.bin")
    counts = torch.from_numpy(np.stack([(masks == label).sum((1, 2)) for label in (0, 1)], axis=1))
    about = {
        "dtype": "uint8", "bands": 3, "size": side, "rgb": True, "classes": ["ground", "block"],
        "low": [0] * 3, "high": [255] * 3, "files": [f"{i:02d}.png" for i in range(count)],
        "slots": list(range(count)), "split": [(0, 0, 0, 0, 1, 2)[i % 6] for i in range(count)],
        "multi_label": MASKS.stored_as, "labels": counts,
    }  # fmt: skip
    write_lists(folder, about)
    return TileStore(folder)


def miou(said: Tensor, true: Tensor) -> float:
    """The slow formula, over classes 0 and 1."""
    there = true != 255
    found = []
    for label in (0, 1):
        ours, theirs = (said == label) & there, true == label
        found.append(float((ours & theirs).sum() / (ours | theirs).sum()))
    return sum(found) / 2


def run_in(folder: Path, **compare: Any) -> Run:
    """A run of few steps on such files."""
    values = {
        "name": "trial",
        "data": {"root": str(folder / "imagery"), "size": 16, "mask_classes": ["ground", "block"]},
        "pretrain": {"backbone": "test_resnet", "epochs": 4},
        "compare": {
            "seeds": [3, 4], "arms": ["gcl", "handcrafted", "supervised"], "fractions": [0.25, 1.0],
            "finetune_steps": 3, "supervised_epochs": 4, "learning_rates": [1e-3], "penalties": [1e-3, 1e-1],
            "batch": 4, "draws": 2, **compare,
        },
        "hardware": {"accelerator": "cpu", "precision": "fp32"},
    }  # fmt: skip
    return Run(folder / "runs" / "trial", check_values(Recipe, values, "test"))
