import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import timm
import torch
from labelled_tiles import HARDWARE, classifier, store_in
from regression import stage_in
from torch import Tensor

from gcl_custom.evaluation.classifier import WARMUP, Classifier
from gcl_custom.evaluation.inference import labelled
from gcl_custom.files import read_json
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.evaluation import PATIENCE
from gcl_custom.training.batches import Batch, Batches
from gcl_custom.training.loop import fit


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


class Killed(Classifier):
    """Ends its process within a step."""

    at = 0

    def training_step(self, batch: Batch) -> Tensor:
        if batch.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch)


EPOCHS, STEPS = 12, 36


def train(folder: Path, killed_at: int | None = None) -> Classifier:
    """Twelve epochs of three steps each, if it does not end early."""
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    store = store_in(folder)
    module = classifier(store, STEPS)
    if killed_at is not None:
        module.__class__ = type("KilledHere", (Killed,), {"at": killed_at})
    tiles = labelled(store, "train")[:12]
    hardware = HARDWARE.model_copy(update={"checkpoint_minutes": 1e-9})
    fit(module, Batches(tiles, 4, 7, store.read), stage_in(folder), hardware, EPOCHS, 1)
    return module


@pytest.mark.parametrize("killed_at", [2, 4, 13])
def test_killed_and_resumed_keeps_the_same_weights_and_ends_as_early(tmp_path: Path, killed_at: int) -> None:
    whole = train(tmp_path / "whole")
    process = multiprocessing.get_context("fork").Process(target=train, args=(tmp_path / "killed", killed_at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = train(tmp_path / "killed")
    again = train(tmp_path / "killed", killed_at=0)
    for module in (resumed, again):
        found, expected = module.state_dict(), whole.state_dict()
        assert found.pop("_extra_state") == expected.pop("_extra_state")
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    histories = [read_json(tmp_path / name / "regression" / "history.json") for name in ("whole", "killed")]
    assert histories[0] == histories[1]
    assert len(histories[0]) < EPOCHS, "dark and bright are told apart at once, so nothing gets better"
    assert len(histories[0]) * 3 - whole.best_step >= PATIENCE * STEPS


def test_the_best_weights_are_kept_and_of_equal_ones_the_latest(
    store: TileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.75, 0.75, 0.5])
    module = classifier(store)
    monkeypatch.setattr(type(store.kind), "score", lambda *given: next(scores))
    for step in range(4):
        module._step = 10 * (step + 1)
        with torch.no_grad():
            module.head.bias.fill_(step)
        module.evaluate()
    assert (module.best, module.best_step) == (0.75, 20)
    module.take_best()
    assert module.head.bias.tolist() == [2, 2]


def test_patience_is_half_of_all_steps(store: TileStore) -> None:
    module = classifier(store, steps=100)
    module.set_extra_state({"best": 0.5, "best_step": 30, "scored_step": 79})
    assert not module.ended
    module.set_extra_state({"best": 0.5, "best_step": 30, "scored_step": 80})
    assert module.ended
