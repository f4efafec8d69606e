"""Small runs that begin with the ImageNet weights of EfficientNet-Lite0, which a package brings along."""

from pathlib import Path
from typing import Any

from drawn_imagery import draw

from gcl_custom.imagery import pack_tiles
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs.run import Run

LITE0 = "tf_efficientnet_lite0"


def started_run(folder: Path, bands: int = 3, **pretrain: Any) -> Run:
    """A run of two steps on 24 packed tiles of 32 px."""
    if not (folder / "imagery").exists():
        draw(folder / "imagery", bands, each=12, size=32)
    values = {
        "name": "trial",
        "data": {"root": str(folder / "imagery"), "size": 32},
        "pretrain": {
            "backbone": LITE0, "start": {"name": "package"}, "epochs": 1, "batch": 8, "source": "raw",
            "mixing_rate": 1.0, "method": {"projector": [16, 16]}, "optimizer": {"name": "adamw"}, "probe_every": 1,
            **pretrain,
        },
        "compare": {
            "seeds": [3, 4], "arms": ["gcl"], "fractions": [], "penalties": [1e-2], "neighbours": 5,
            "learning_rates": [1e-3], "supervised_epochs": 1, "batch": 8, "shots": [1], "draws": 2,
        },
        "hardware": {"accelerator": "cpu", "precision": "fp32"},
    }  # fmt: skip
    run = Run(folder / "runs" / "trial", check_values(Recipe, values, "test"))
    pack_tiles.pack_tiles(run)
    return run
