from pathlib import Path

import pytest
from labelled_tiles import classifier, store_in

from gcl_custom.evaluation.classifier import WARMUP
from gcl_custom.imagery.tile_store import TileStore


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return store_in(tmp_path)


def test_learning_rate_rises_then_falls_to_zero(store: TileStore) -> None:
    schedule = classifier(store, steps=50).schedule
    rates = [schedule(step) for step in range(51)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) <= 50 * WARMUP
    assert rates[-1] == pytest.approx(0, abs=1e-9)
