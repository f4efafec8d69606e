"""A run whose tiles, reconstructions and views are told apart by their brightness."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from written_index import write_lists

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.methods import VICRegSettings
from gcl_custom.recipe.pretraining import AdamWSettings, HandcraftedSettings, PretrainSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch
from gcl_custom.views import handcrafted
from gcl_custom.views.view_store import TILES, VIEWS

TILE_COUNT, SIZE = 30, 16
SETTINGS = PretrainSettings(
    backbone="test_resnet",
    method=VICRegSettings(projector=[16, 16]),
    optimizer=AdamWSettings(name="adamw"),
    epochs=2,
    batch=6,
    mixing_rate=0.5,
    pairing=[],
    probe_every=1,
)

SMALL_HEADS = {
    "vicreg": {"projector": [16, 16]},
    "barlow_twins": {"projector": [16, 16]},
    "simclr": {"projector": [16, 8]},
    "byol": {"projector": [16, 8]},
    "dino": {"projector": [16, 8], "outputs": 12},
    "swav": {"projector": [16, 8], "prototypes": 12, "queue": 12, "queue_from": 0.4},
    "lejepa": {"projector": [16, 8], "slices": 32},
}
"""Settings of each method that make it small."""


def with_changes(**changes: object) -> PretrainSettings:
    return SETTINGS.model_copy(update=changes)


def run_in(folder: Path) -> Run:
    """A run whose tiles are dark (below 100), reconstructions middling (100), and views bright (200, 201, 202)."""
    recipe = Recipe(
        name="r",
        data=DataSettings(root="none", size=SIZE),
        pretrain=SETTINGS,
        hardware=HardwareSettings(accelerator="cpu", precision="fp32"),
    )
    run = Run(folder / "run", recipe)
    labels = np.arange(TILE_COUNT) % 2
    split = np.repeat([0, 1], [18, 12])
    tiles = plan.tiles(run)
    tiles.begin()
    noise = np.random.default_rng(0).integers(0, 40, (TILE_COUNT, 3, SIZE, SIZE))
    (noise + 50 * labels[:, None, None, None]).astype(np.uint8).tofile(tiles.path / "tiles-00000.bin")
    about = {
        "dtype": "uint8",
        "bands": 3,
        "size": SIZE,
        "rgb": True,
        "classes": ["dark", "bright"],
        "low": [0] * 3,
        "high": [255] * 3,
        "files": [f"{i}.png" for i in range(TILE_COUNT)],
        "multi_label": False,
        "slots": list(range(TILE_COUNT)),
        "labels": labels.tolist(),
        "split": split.tolist(),
    }
    write_lists(tiles.path, about)
    tiles.finish()
    for stage, values in ((plan.reconstructions(run), [100]), (plan.views(run), [200, 201, 202])):
        stage.path.mkdir()
        views = np.broadcast_to(np.array(values)[:, None, None, None], (18, len(values), 3, SIZE, SIZE))
        np.save(stage.path / VIEWS, views.astype(np.uint8))
        np.save(stage.path / TILES, np.arange(18))
    return run


def module_of(run: Run, settings: PretrainSettings) -> Contrastive:
    store = TileStore(plan.tiles(run).path)
    return Contrastive(store, Reader(run, settings), settings, steps=10, batch=18, seed=0)


def views_at(run: Run, settings: PretrainSettings, steps: int) -> list[tuple[Tensor, ...]]:
    module, tiles = module_of(run, settings), torch.arange(18)
    data = Reader(run, settings)(tiles)
    return [module.views(Batch(step, tiles, data)) for step in range(steps)]


def handcrafted_view(run: Run, view: int, tiles: Tensor, size: int = SIZE, step: int = 0) -> Tensor:
    store = TileStore(plan.tiles(run).path)
    rng = Randomness(0, "pretrain", step, tiles)
    return handcrafted.handcrafted(store.unit(store.read(tiles)), HandcraftedSettings(), view, size, True, rng)


def shown(view: Tensor) -> Tensor:
    """Which of its generative views each tile shows, by their brightness; -1 where the view is handcrafted."""
    values = (view * 255).round().flatten(1)
    return torch.where((values == values[:, :1]).all(dim=1) & (values[:, 0] >= 200), values[:, 0] - 200, -1).long()
