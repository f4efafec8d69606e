"""The words of patches, as a floor and as what views predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from started_runs import started_run

from gcl_custom.errors import RecipeError
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures.tile_features import PatchWords
from gcl_custom.pretraining.make_targets import make_targets
from gcl_custom.pretraining.pretrain import pretrain
from gcl_custom.pretraining.targets import FEATURES
from gcl_custom.pretraining.word_targets import patch_words
from gcl_custom.recipe.file import check_values
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

WORDS = {"name": "words", "words": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    run = started_run(tmp_path_factory.mktemp("words"), backbone="test_resnet", start={"name": "none"}, targets=WORDS)
    make_targets(run)
    return run


def test_targets_are_the_words_of_each_training_tile(made: Run) -> None:
    store = TileStore(plan.tiles(made).path)
    found = np.load(plan.targets(made).path / FEATURES)
    tiles = store.unit(store.read(store.index("train")))
    assert found.shape == (len(tiles), 16 + 4 * store.bands)
    pixels = tiles.flatten(2)
    statistics = torch.cat([pixels.mean(2), pixels.std(2, correction=0), pixels.amin(2), pixels.amax(2)], 1).numpy()
    np.testing.assert_allclose(found[:, 16:], statistics, rtol=1e-3, atol=1e-4)
    assert (found[:, :16] >= 0).all()
    assert found[:, :16].std(0).min() > 0, "each word tells some tiles from others"


def test_words_depend_on_the_seed_alone(made: Run) -> None:
    store = TileStore(plan.tiles(made).path)
    (one, width), (again, _), (other, _) = (patch_words(store, 16, seed) for seed in (0, 0, 1))
    assert isinstance(one, PatchWords)
    assert width == 16 + 4 * store.bands
    assert torch.equal(one.words, again.words)
    assert not torch.equal(one.words, other.words)


def test_pretraining_learns_to_predict_them(tmp_path: Path) -> None:
    epochs = {"epochs": 12, "optimizer": {"name": "adamw", "learning_rate": 1e-2}, "method": {"name": "distil"}}
    run = started_run(tmp_path, backbone="test_resnet", start={"name": "none"}, targets=WORDS, **epochs)
    make_targets(run)
    pretrain(run, "gcl", 0)
    rows = read_json(plan.pretrain(run, "gcl", 0).path / "history.json")
    assert rows[-1]["targets"] < rows[0]["targets"] - 3


def test_only_distil_without_any_targets_is_refused() -> None:
    check_values(PretrainSettings, {"targets": WORDS, "method": {"name": "distil"}}, "here")
    with pytest.raises(RecipeError, match="distil learns targets alone"):
        check_values(PretrainSettings, {"method": {"name": "distil"}}, "here")


def test_other_words_are_other_targets(made: Run, tmp_path: Path) -> None:
    more = made.recipe.pretrain.model_copy(
        update={"targets": made.recipe.pretrain.targets.model_copy(update={"words": 17})}
    )
    other = Run(made.path, made.recipe.model_copy(update={"pretrain": more}))
    assert plan.targets(other).fingerprint != plan.targets(made).fingerprint
