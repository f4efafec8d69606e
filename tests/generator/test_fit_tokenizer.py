"""The stage that fits the VQGAN: exact resumption, and weights of another run."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizer_runs import recipe, with_tiles
from torch import Tensor

from gcl_custom.generator import fit_tokenizer
from gcl_custom.generator.token_training import TokenizerTraining
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch


def work(folder: Path, settings: Recipe, killed_at: int | None) -> None:
    torch.set_num_threads(1)
    step = TokenizerTraining.training_step

    def dying(self: TokenizerTraining, batch: Batch) -> Tensor:
        if batch.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    TokenizerTraining.training_step = dying  # type: ignore[method-assign]
    fit_tokenizer.fit_tokenizer(Run(folder, settings))


def test_weights_of_another_run_are_taken_as_they_are_or_trained_on(tmp_path: Path) -> None:
    first = with_tiles(tmp_path / "first", recipe(epochs=1))
    fit_tokenizer.fit_tokenizer(first)
    weights = plan.tokenizer(first).path / plan.TOKENIZER
    taken = with_tiles(tmp_path / "taken", recipe(epochs=0, weights=str(weights)))
    fit_tokenizer.fit_tokenizer(taken)
    assert (plan.tokenizer(taken).path / plan.TOKENIZER).read_bytes() == weights.read_bytes()
    quality = ("psnr", "ssim", "feature_distance", "codes_used")
    assert all(plan.tokenizer(taken).facts[name] == plan.tokenizer(first).facts[name] for name in quality)
    further = with_tiles(tmp_path / "further", recipe(epochs=1, weights=str(weights), adversary_start=1.0))
    fit_tokenizer.fit_tokenizer(further)
    start, end = load_file(weights), load_file(plan.tokenizer(further).path / plan.TOKENIZER)
    moved = [(end[name] - start[name]).abs().max().item() for name in start if start[name].is_floating_point()]
    assert max(moved) > 0
    assert plan.tokenizer(further).facts["psnr"] > plan.tokenizer(first).facts["psnr"]


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed in mid-epoch before and after the adversary joined, with codes revived."""
    settings = recipe()
    for name, kills in (("whole", (None,)), ("killed", (6, 13, None))):
        with_tiles(tmp_path / name, settings)
        for killed_at in kills:
            process = multiprocessing.get_context("fork").Process(
                target=work, args=(tmp_path / name, settings, killed_at)
            )
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (load_file(tmp_path / name / "tokenizer" / "vqgan.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not any("discriminator" in name for name in whole)
    facts = [plan.tokenizer(Run(tmp_path / name, settings)).facts for name in ("whole", "killed")]
    assert facts[0] == facts[1]
    assert {"psnr", "ssim", "feature_distance", "codes_used", "perplexity", "parameters"} <= facts[0].keys()
    assert list((tmp_path / "whole" / "tokenizer" / "pictures").glob("reconstructions-*.png"))


def test_a_finished_stage_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_tiles(tmp_path / "r", recipe(epochs=1))
    fit_tokenizer.fit_tokenizer(run)
    monkeypatch.delattr(fit_tokenizer, "fit")
    fit_tokenizer.fit_tokenizer(run)
