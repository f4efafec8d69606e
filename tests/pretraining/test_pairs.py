import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.contrastive import Contrastive
from gcl_custom.pretraining.pairs import Reader
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.methods import VICRegSettings
from gcl_custom.recipe.pretraining import AdamWSettings, HandcraftedSettings, PretrainSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch
from gcl_custom.views import handcrafted
from gcl_custom.views.view_store import TILES, VIEWS

TILE_COUNT, SIZE, VIEWS_PER_TILE = 30, 16, 3


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


def with_changes(**changes: object) -> PretrainSettings:
    return SETTINGS.model_copy(update=changes)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose tiles are dark (below 100), reconstructions middling (100), and views bright (200, 201, 202)."""
    recipe = Recipe(
        name="r",
        data=DataSettings(root="none", size=SIZE),
        pretrain=SETTINGS,
        hardware=HardwareSettings(accelerator="cpu", precision="fp32"),
    )
    run = Run(tmp_path / "run", recipe)
    labels = np.arange(TILE_COUNT) % 2
    split = np.repeat([0, 1], [18, 12])
    tiles = plan.tiles(run)
    tiles.begin()
    noise = np.random.default_rng(0).integers(0, 40, (TILE_COUNT, 3, SIZE, SIZE))
    (noise + 50 * labels[:, None, None, None]).astype(np.uint8).tofile(tiles.path / "tiles.bin")
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
    (tiles.path / "tiles.json").write_text(json.dumps(about))
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


def test_a_view_that_lost_its_content_is_never_used_and_a_handcrafted_one_takes_its_place(run: Run) -> None:
    similarity = torch.rand(18, 3, generator=torch.Generator().manual_seed(0)).numpy()
    np.save(plan.views(run).path / "similarity.npy", similarity)
    settings = with_changes(mixing_rate=1.0, generative_views=2)
    without = views_at(run, settings, 8)
    run.recipe = run.recipe.model_copy(update={"views": ViewsSettings(per_tile=3, least_similarity=0.6)})
    replaced = 0
    for step, (before, after) in enumerate(zip(without, views_at(run, settings, 8), strict=True)):
        for place in (1, 2):
            which = shown(before[place])
            usable = torch.from_numpy(similarity[torch.arange(18), which] >= 0.6)
            assert torch.equal(shown(after[place]), torch.where(usable, which, -1))
            replaced += int((~usable).sum())
            if place == 1:
                expected = handcrafted_view(run, place, torch.arange(18), step=step)
                torch.testing.assert_close(after[place][~usable], expected[~usable])
    assert 0.4 < replaced / (8 * 2 * 18) < 0.8
    assert Reader(run, with_changes(source="raw")).usable(torch.arange(18), 1).all(), "controls have no such views"


def test_a_pair_does_not_depend_on_its_batch(run: Run) -> None:
    settings = with_changes(generative_views=2)
    module, reader, tiles = module_of(run, settings), Reader(run, settings), torch.arange(18)
    together = module.views(Batch(3, tiles, reader(tiles)))
    halves = [module.views(Batch(3, half, reader(half))) for half in (tiles[:7], tiles[7:])]
    for i, view in enumerate(together):
        torch.testing.assert_close(view, torch.cat([half[i] for half in halves]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sources"),
    [
        ({"mixing_rate": 0.0}, {"raw"}),
        ({"mixing_rate": 0.0, "anchor": "reconstructed"}, {"reconstructed"}),
        ({}, {"raw", "inpainted"}),
        ({"source": "reconstructed"}, {"raw", "reconstructed"}),
        ({"source": "raw"}, {"raw"}),
        ({"anchor": "reconstructed"}, {"reconstructed", "inpainted"}),
    ],
)
def test_reads_only_what_the_pairs_are_made_of(run: Run, changes: dict[str, object], sources: set[str]) -> None:
    assert set(Reader(run, with_changes(**changes))(torch.arange(2))) == sources
