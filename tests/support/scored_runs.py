"""Small runs whose backbones can be scored: class folders of coloured tiles, and a recipe of few steps."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run

COLOURS = {
    "burnt": (20, 20, 20), "cloud": (230, 230, 230), "field": (220, 200, 20),
    "forest": (10, 150, 40), "lake": (10, 40, 200), "soil": (200, 60, 20),
}  # fmt: skip


def draw(folder: Path, each: int = 20, classes: tuple[str, ...] = tuple(COLOURS)) -> None:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = np.clip(rng.normal(COLOURS[name], 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def run_in(folder: Path, **compare: Any) -> Run:
    values = {
        "name": "trial",
        "data": {"root": str(folder / "imagery"), "size": 16},
        "pretrain": {"backbone": "test_resnet", "epochs": 4},
        "compare": {
            "seeds": [3, 4], "arms": ["gcl", "handcrafted", "supervised"], "fractions": [0.25, 1.0],
            "finetune_steps": 3, "supervised_epochs": 4, "learning_rates": [1e-3, 1e-2], "penalties": [1e-3, 1e-1],
            "batch": 8, "neighbours": 5, "shots": [1, 3], "draws": 2, **compare,
        },
        "hardware": {"accelerator": "cpu", "precision": "fp32"},
    }  # fmt: skip
    return Run(folder / "runs" / "trial", check_values(Recipe, values, "test"))
