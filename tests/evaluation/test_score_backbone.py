import pytest

from gcl_custom.evaluation import score_backbone
from gcl_custom.evaluation.inference import labelled
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs.run import Run


@pytest.mark.parametrize("name", ["statistics", "patches"])
def test_a_floor_is_probed_once_and_tells_colours_apart(packed: Run, store: TileStore, name: str) -> None:
    probed = score_backbone.probe_floor(packed, store, name)
    truth = store.labels[labelled(store, "test")].tolist()
    assert sum(a == b for a, b in zip(probed["linear"], truth, strict=True)) > 0.8 * len(truth)
    kept = read_json(packed.path / "probes" / name / "probes.json")
    assert kept == score_backbone.probe_floor(packed, store, name) == probed
