from pathlib import Path

import pytest
import timm
from labelled_tiles import classifier, store_in

from gcl_custom.evaluation.classifier import WARMUP
from gcl_custom.imagery.tile_store import TileStore


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return store_in(tmp_path)


def test_positions_and_tokens_are_not_decayed(store: TileStore) -> None:
    module = classifier(store)
    module.backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    decayed, free = module.make_optimizer().param_groups
    names = {id(weight): name for name, weight in module.named_parameters()}
    assert {names[id(weight)] for weight in free["params"]} == {"backbone.pos_embed", "backbone.cls_token"}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert not classifier(store).make_optimizer().param_groups[1]["params"]


def test_learning_rate_rises_then_falls_to_zero(store: TileStore) -> None:
    schedule = classifier(store, steps=50).schedule
    rates = [schedule(step) for step in range(51)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) <= 50 * WARMUP
    assert rates[-1] == pytest.approx(0, abs=1e-9)
