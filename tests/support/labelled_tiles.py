"""A store of small tiles with labels, and a classifier of them whose backbone has nothing to learn."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from written_index import write_lists

from gcl_custom.evaluation.classifier import Classifier
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings

HARDWARE = HardwareSettings(accelerator="cpu", precision="fp32")
SETTINGS = PretrainSettings(crop_size=16, handcrafted=HandcraftedSettings(crop=(0.5, 1.0)))


def store_in(folder: Path, count: int = 24, size: int = 24) -> TileStore:
    """Two classes, dark and bright; every sixth tile has no label; split 4 : 1 : 1."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 100, (count, 3, size, size))
    (labels[:, None, None, None] * 120 + noise).astype(np.uint8).tofile(folder / "tiles-00000.bin")
    about = {
        "dtype": "uint8",
        "bands": 3,
        "size": size,
        "rgb": True,
        "classes": ["dark", "bright"],
        "low": [0] * 3,
        "high": [255] * 3,
        "files": [f"{i}.png" for i in range(count)],
        "multi_label": False,
        "slots": list(range(count)),
        "labels": np.where(np.arange(count) % 6 == 5, -1, labels).tolist(),
        "split": [(0, 0, 0, 0, 1, 2)[i // 2 % 6] for i in range(count)],
    }
    write_lists(folder, about)
    return TileStore(folder)


class Means(nn.Module):
    """Mean of each band: a backbone that remembers the size of what it was given."""

    size = 0

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.size = tiles.shape[-1]
        return tiles.mean((2, 3))


def classifier(store: TileStore, steps: int = 100) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Means(), 3, store, SETTINGS, HARDWARE, learning_rate=0.1, steps=steps, seed=5)
