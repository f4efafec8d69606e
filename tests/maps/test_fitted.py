"""What maps are made with: the axes of scikit-learn, and the probe of the comparison."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from gcl_custom.evaluation import compare_supervised
from gcl_custom.evaluation.inference import labelled
from gcl_custom.export.backbone_of_run import TrainedBackbone, load_backbone
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.maps import fitted as module
from gcl_custom.maps.fitted import fitted, why_no_probe
from gcl_custom.maps.representations import representations_of
from gcl_custom.measures.label_kinds import MASKS, MULTI_LABEL
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def known(run: Run) -> TrainedBackbone:
    return load_backbone(run, "gcl", None)


def test_the_axes_are_the_principal_ones_of_the_training_tiles(known: TrainedBackbone) -> None:
    x, found = representations_of(known), fitted(known)
    train = x[known.store.index("train").numpy()].astype(np.float64)
    theirs = PCA(5).fit(train)
    ours, expected = found.components(x, 5), theirs.transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.shares[:5].numpy(), theirs.explained_variance_ratio_, rtol=1e-5)
    assert (found.axes.gather(0, found.axes.abs().argmax(0, keepdim=True)) > 0).all()


def test_all_axes_keep_the_distances_between_training_tiles(known: TrainedBackbone) -> None:
    found = fitted(known)
    train = representations_of(known)[known.store.index("train").numpy()]
    along = torch.from_numpy(found.components(train, len(found.shares)))
    plain = torch.from_numpy(train).double()
    torch.testing.assert_close(torch.cdist(along, along), torch.cdist(plain, plain), rtol=1e-4, atol=1e-5)


def test_the_probe_is_that_of_the_comparison(known: TrainedBackbone) -> None:
    store = known.store
    test = labelled(store, "test").numpy()
    probabilities = fitted(known).probabilities(representations_of(known)[test])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    reported = compare_supervised.probe(known.run, store, "gcl", known.seed)
    assert probabilities.argmax(1).tolist() == reported["linear"]


def test_both_are_fitted_once_and_anew_for_other_penalties(
    known: TrainedBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fitted(known)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_fit", lambda *_: pytest.fail("it is kept"))
        assert torch.equal(fitted(known).axes, before.axes)
    compare = known.run.recipe.compare.model_copy(update={"penalties": [1.0]})
    other = Run(known.run.path, known.run.recipe.model_copy(update={"compare": compare}))
    after = fitted(replace(known, run=other))
    assert before.weight is not None
    assert after.weight is not None
    assert after.weight.norm() < 0.5 * before.weight.norm()
    assert torch.equal(after.axes, before.axes)


def test_why_there_is_no_map_of_classes(known: TrainedBackbone) -> None:
    assert why_no_probe(known.store) is None
    store = TileStore(known.store.path)
    store.kind = MULTI_LABEL
    assert why_no_probe(store) == "its tiles have several labels each, not one"
    store.kind = MASKS
    assert why_no_probe(store) == "its tiles have a class a pixel, not one"
    store = TileStore(known.store.path)
    store.labels[:] = 1
    assert why_no_probe(store) == "all labelled training tiles are of one class"
    store.has_label = store.has_label & (store.split == 2)
    assert why_no_probe(store) == "none of its train and valid tiles has a label"
    store.classes = []
    assert why_no_probe(store) == "the run's tiles have no labels"
