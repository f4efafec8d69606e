"""The stage of label-free measures, recomputed one view at a time; and that it never looks at labels."""

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from test_views import tile_store

from gcl_custom import backbones, measure, plan
from gcl_custom.augmentations import handcrafted
from gcl_custom.collapse import effective_rank
from gcl_custom.features import efficientnet_lite0
from gcl_custom.imagery import TileStore
from gcl_custom.label_free import lidar, spectrum_slope
from gcl_custom.randomness import Randomness
from gcl_custom.recipe import Compare, Data, Hardware, Recipe
from gcl_custom.recipe_pretrain import Pretrain
from gcl_custom.runs import Run
from gcl_custom.views import TILES, VIEWS
from gcl_custom.weights import load_weights, save_weights

RECIPE = Recipe(
    name="r",
    seed=5,
    data=Data(root="none", size=16),
    pretrain=Pretrain(backbone="test_resnet", crop_size=24),
    compare=Compare(seeds=[3], arms=["gcl"]),
    hardware=Hardware(accelerator="cpu", precision="fp32"),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Random tiles of two bands, none for validation; a random backbone; views that are their tiles, upside down."""
    run = Run(tmp_path / "r", RECIPE)
    stages = [plan.tiles(run), plan.tokenizer(run), plan.tokens(run), plan.maskgit(run), plan.views(run)]
    for stage in [*stages, plan.pretrain(run, "gcl", 3)]:
        if stage.name == "tiles":
            store = tile_store(stage.path)
        stage.begin()
        if stage.name == "views":
            np.save(stage.path / TILES, store.index("train").numpy())
            np.save(stage.path / VIEWS, store.read(store.index("train")).flip(2)[:, None].numpy())
        if stage.name == "pretrain/gcl-3":
            torch.manual_seed(1)
            save_weights(stage.path / "backbone.safetensors", backbones.build("test_resnet", 2)[0])
        stage.finish()
    return run


def test_measures_are_those_of_each_view_by_itself(run: Run) -> None:
    measure.run(run)
    store = TileStore(plan.tiles(run).path)
    tiles = store.index("train")  # there are none for validation
    backbone, width = backbones.build("test_resnet", 2)
    load_weights(plan.pretrain(run, "gcl", 3).path / "backbone.safetensors", backbone)
    backbone.eval()
    whole = torch.stack([backbone(store.unit(store.read(tile[None])))[0] for tile in tiles]).detach()
    views = torch.empty(len(tiles), plan.MEASURED_VIEWS, width)
    for row, tile in enumerate(tiles):
        for number in range(plan.MEASURED_VIEWS):
            rng = Randomness(5, "measures", number, tile[None])
            place = 0 if number % 2 == 0 else 1
            view = handcrafted(store.unit(store.read(tile[None])), RECIPE.pretrain.handcrafted, place, 24, False, rng)
            views[row, number] = backbone(view)[0].detach()
    facts = plan.measures(run, 3).facts
    assert facts["rankme"] == pytest.approx(effective_rank(whole), rel=1e-4)
    assert facts["alpha"] == pytest.approx(spectrum_slope(whole), rel=1e-2)
    assert facts["lidar"] == pytest.approx(lidar(views), rel=1e-3)
    assert (facts["tiles"], facts["split"], facts["views"]) == (10, "train", plan.MEASURED_VIEWS)


def test_likeness_is_the_mean_cosine_of_pooled_features(run: Run) -> None:
    measure.run(run)
    store, network = TileStore(plan.tiles(run).path), efficientnet_lite0()
    cosines = []
    for tile in store.index("train"):
        unit = store.unit(store.read(tile[None]))
        a, b = network.pooled(unit)[0], network.pooled(unit.flip(2))[0]
        cosines.append(float(a @ b / (a.norm() * b.norm())))
    assert plan.likeness(run).facts["likeness"] == pytest.approx(np.mean(cosines), abs=1e-4)
    assert np.mean(cosines) < 0.999


def test_what_no_views_are_mixed_into_has_no_likeness(run: Run) -> None:
    settings = RECIPE.pretrain.model_copy(update={"mixing_rate": 0.0})
    other = Run(run.path, RECIPE.model_copy(update={"pretrain": settings}), redo=True)
    pretrained = plan.pretrain(other, "gcl", 3)
    pretrained.begin()
    save_weights(pretrained.path / "backbone.safetensors", backbones.build("test_resnet", 2)[0])
    pretrained.finish()
    measure.run(other)
    assert plan.measures(other, 3).done
    assert not plan.likeness(other).path.exists()


def test_no_label_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: TileStore) -> NoReturn:
        raise AssertionError("labels were read")

    monkeypatch.setattr(TileStore, "labels", property(refuse, lambda store, value: None), raising=False)
    measure.run(run)
    assert plan.measures(run, 3).done
