"""Runs whose tokenizer is to be fitted, on smooth random fields."""

from pathlib import Path

import torch
from torch import nn
from written_index import write_lists

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.features import WithoutNetworkSettings
from gcl_custom.recipe.generator import TokenGeneratorSettings, TokenizerSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def recipe(**settings: object) -> Recipe:
    small = {
        "epochs": 4, "batch": 4, "codes": 16, "code_width": 4, "channels": 16, "blocks": 1, "pixels_per_token": 4,
        "perceptual": WithoutNetworkSettings(name="none"), "revive_after": 3, "adversary_start": 0.5,
        "adversary_warmup": 0.25, "adversary_weight": 0.1,
    }  # fmt: skip
    return Recipe(
        name="r",
        data=DataSettings(root="none", size=16),
        generator=TokenGeneratorSettings(tokenizer=TokenizerSettings(**{**small, **settings})),  # type: ignore[arg-type]
        hardware=HardwareSettings(accelerator="cpu", precision="fp32", checkpoint_minutes=1e-9),
    )


def tile_store(folder: Path, bands: int = 2) -> TileStore:
    """Sixteen training tiles, four validation and four test tiles of smooth random fields."""
    folder.mkdir(parents=True)
    coarse = torch.rand(24, bands, 4, 4, generator=torch.Generator().manual_seed(0))
    fields = nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    (fields * 255).to(torch.uint8).numpy().tofile(folder / "tiles-00000.bin")
    about = {
        "dtype": "uint8", "bands": bands, "size": 16, "rgb": bands == 3, "classes": [], "labels": [-1] * 24,
        "files": [f"{number:02d}.tif" for number in range(24)], "multi_label": False, "slots": list(range(24)),
        "low": [0] * bands, "high": [255] * bands, "split": [0] * 16 + [1] * 4 + [2] * 4,
    }  # fmt: skip
    write_lists(folder, about)
    return TileStore(folder)


def with_tiles(folder: Path, settings: Recipe) -> Run:
    run = Run(folder, settings)
    stage = plan.tiles(run)
    tile_store(stage.path)
    stage.begin()
    stage.finish()
    return run
