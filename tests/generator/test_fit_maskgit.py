"""The MaskGIT stage: stored tokens, the kept weights, exact resumption, and what is said where nothing is learnt."""

import copy
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from token_runs import RECIPE, continued, with_tokenizer

from gcl_custom.generator import fit_maskgit
from gcl_custom.generator.fit_maskgit import MaskGITTraining
from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.token_store import Tokens
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch


def training_on(run: Run) -> MaskGITTraining:
    store = TileStore(plan.tiles(run).path)
    tokenizer = VQGAN(2, RECIPE.tokens.tokenizer)
    return MaskGITTraining(RECIPE, store, Tokens(plan.tokens(run).path, store), tokenizer, 2)


def test_marginal_entropy_is_the_code_length_of_validation_tokens(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    counts = training._tokens.counts(training._store.index("train"), 8).double() + 1
    terms = []
    for tokens, hidden in training._hidden_validation():
        terms += [-math.log(counts[token] / counts.sum()) for token in tokens[hidden].tolist()]
    assert training.marginal_entropy() == pytest.approx(sum(terms) / len(terms))
    # The same tokens are hidden at each evaluation.
    first, second = training._hidden_validation(), training._hidden_validation()
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_the_average_with_the_lowest_validation_loss_is_kept(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    training.eval()
    losses, states = [], []
    for number in range(6):
        training._step = 2 * number + 1
        with torch.no_grad():
            for parameter in training.average.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
            losses.append(training.evaluate()["masked_token_loss"])
        states.append(copy.deepcopy(training.average.state_dict()))
    best = losses.index(min(losses))
    assert training.kept_loss.item() == pytest.approx(min(losses))
    assert int(training.kept_epoch) == best + 1
    for name, value in training.kept.state_dict().items():
        assert torch.equal(value, states[best][name])


def test_weight_decay_is_on_matrices_only(tmp_path: Path) -> None:
    training = training_on(with_tokenizer(tmp_path / "r"))
    decayed, others = training.configure_optimizers().param_groups
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert decayed["weight_decay"] > 0
    assert others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == len(list(training.net.parameters()))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_recipe_s_label_smoothing_reaches_any_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smoothing: float
) -> None:
    """Public networks know nothing of the recipe: they are told."""
    training = training_on(with_tokenizer(tmp_path / "r"))
    training._settings = training._settings.model_copy(update={"label_smoothing": smoothing})
    optimizer, told = training.configure_optimizers(), list[float]()

    def loss(tokens: torch.Tensor, hidden: torch.Tensor, smoothing: float | None = None) -> torch.Tensor:
        told.append(-1.0 if smoothing is None else smoothing)
        return torch.zeros(())

    monkeypatch.setattr(training, "optimizers", lambda: optimizer)
    monkeypatch.setattr(training, "record", lambda figures: None)
    monkeypatch.setattr(training.net, "loss", loss)
    tiles = training._store.index("train")[:3]
    training.training_step(Batch(0, tiles, training._tokens.read(tiles)), 0)
    assert told == [smoothing]


def test_weights_of_another_run_are_kept_until_there_are_better_ones(tmp_path: Path) -> None:
    first = with_tokenizer(tmp_path / "first")
    fit_maskgit.fit_maskgit(first)
    weights, before = plan.maskgit(first).path / plan.MASKGIT, plan.maskgit(first).facts
    taken = with_tokenizer(tmp_path / "taken", continued(0, weights))
    fit_maskgit.fit_maskgit(taken)
    assert (plan.maskgit(taken).path / plan.MASKGIT).read_bytes() == weights.read_bytes()
    assert plan.maskgit(taken).facts["masked_token_loss"] == pytest.approx(before["masked_token_loss"])
    assert plan.maskgit(taken).facts["kept_epoch"] == 0
    with_tokenizer(tmp_path / "further")
    further = Run(tmp_path / "further", continued(2, weights))
    fit_maskgit.fit_maskgit(further)
    assert plan.maskgit(further).facts["masked_token_loss"] <= before["masked_token_loss"] + 1e-6


def work(folder: Path, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    step = MaskGITTraining.training_step

    def dying(self: MaskGITTraining, batch: object, batch_idx: int) -> torch.Tensor:
        if self._step + 1 == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)

    MaskGITTraining.training_step = dying
    fit_maskgit.fit_maskgit(Run(folder, RECIPE))


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed in mid-epoch, with dropout, a moving average, and weights kept before and after the kill."""
    for name, kills in (("whole", (None,)), ("killed", (3, 8, None))):
        with_tokenizer(tmp_path / name)
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(target=work, args=(tmp_path / name, killed_at))
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (load_file(tmp_path / name / "maskgit" / "maskgit.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    facts = plan.maskgit(Run(tmp_path / "whole", RECIPE)).facts
    assert facts == plan.maskgit(Run(tmp_path / "killed", RECIPE)).facts
    assert facts["gap"] == pytest.approx(facts["marginal_entropy"] - facts["masked_token_loss"])
    assert 1 <= facts["kept_epoch"] <= 6
    assert list((tmp_path / "whole" / "maskgit" / "pictures").glob("views-*.png"))


def test_it_warns_where_nothing_is_learnt_from_context() -> None:
    assert fit_maskgit.warning(gap=0.02, share_done=0.1) is None
    assert fit_maskgit.warning(gap=0.9, share_done=0.9) is None
    line = fit_maskgit.warning(gap=0.02, share_done=0.5)
    assert line is not None
    assert "0.02 nats" in line
    assert "generator.maskgit.epochs" in line
