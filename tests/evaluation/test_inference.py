from pathlib import Path

import pytest
import torch
from labelled_tiles import HARDWARE, SETTINGS, classifier, store_in

from gcl_custom.evaluation.inference import infer, labelled, predict
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.training.batches import Batch


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    return store_in(tmp_path)


def test_labelled_leaves_out_tiles_without_label(store: TileStore) -> None:
    for split in ("train", "valid", "test"):
        tiles = labelled(store, split)
        assert set(tiles.tolist()) == {t for t in store.index(split).tolist() if store.labels[t] >= 0}
    assert (store.labels == -1).any()


def test_views_are_as_large_as_in_pretraining_and_inference_sees_whole_tiles(store: TileStore) -> None:
    module = classifier(store)
    tiles = labelled(store, "train")
    module.training_step(Batch(0, tiles, store.read(tiles)))
    assert module.backbone.size == 16
    features = infer(module.backbone, store, tiles, HARDWARE)
    assert module.backbone.size == store.size
    torch.testing.assert_close(features, store.unit(store.read(tiles)).mean((2, 3)))


def test_loss_of_a_step_does_not_depend_on_what_was_drawn_before(store: TileStore) -> None:
    tiles = labelled(store, "train")
    batch = Batch(3, tiles, store.read(tiles))
    first = classifier(store).training_step(batch)
    torch.rand(1000)
    assert torch.equal(first, classifier(store).training_step(batch))


def test_training_separates_dark_from_bright(store: TileStore) -> None:
    module = classifier(store)
    tiles, test = labelled(store, "train"), labelled(store, "test")
    optimizer = module.make_optimizer()
    for step in range(100):
        optimizer.zero_grad()
        module.training_step(Batch(step, tiles, store.read(tiles))).backward()
        optimizer.step()
    assert torch.equal(predict(module, store, test, HARDWARE), store.labels[test])
    assert module.evaluate() == {"valid accuracy": 1.0}


def test_a_classifier_sees_tiles_at_the_size_of_its_training_views(store: TileStore) -> None:
    module = classifier(store)
    predict(module, store, labelled(store, "test"), HARDWARE)
    assert module.backbone.size == SETTINGS.crop_size == 16 < store.size
