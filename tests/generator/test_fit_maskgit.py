"""The stage that fits MaskGIT: exact resumption, and weights of another run."""

import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from token_runs import RECIPE, continued, with_tokenizer

from gcl_custom.generator import fit_maskgit, token_training
from gcl_custom.generator.token_training import MaskGITTraining
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.batches import Batch


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


def work(folder: Path, killed_at: int | None, least_fall: float) -> None:
    torch.set_num_threads(1)
    token_training.LEAST_FALL, token_training.LEAST_STEPS, token_training.LEAST_GAP = least_fall, 1, -math.inf
    step = MaskGITTraining.training_step

    def dying(self: MaskGITTraining, batch: Batch) -> torch.Tensor:
        if self._step + 1 == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    MaskGITTraining.training_step = dying
    fit_maskgit.fit_maskgit(Run(folder, RECIPE))


@pytest.mark.parametrize(
    ("least_fall", "epochs", "kills"),
    [(-math.inf, 6, (3, 8)), (math.inf, 3, (3, 5))],
    ids=["all epochs", "flat after two of them"],
)
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, least_fall: float, epochs: int, kills: tuple[int, int]
) -> None:
    """Killed in mid-epoch, with dropout, a moving average, and weights kept before and after the kill.

    With a loss that counts as flat, the second kill comes after the rate has begun to fall.
    """
    for name, killed in (("whole", ()), ("killed", kills)):
        with_tokenizer(tmp_path / name)
        for killed_at in (*killed, None):
            arguments = (tmp_path / name, killed_at, least_fall)
            process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
            process.start()
            process.join()
            assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    whole, killed = (load_file(tmp_path / name / "maskgit" / "maskgit.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    facts = plan.maskgit(Run(tmp_path / "whole", RECIPE)).facts
    assert facts == plan.maskgit(Run(tmp_path / "killed", RECIPE)).facts
    assert facts["gap"] == pytest.approx(facts["marginal_entropy"] - facts["masked_token_loss"])
    assert facts["epochs"] == epochs
    assert 1 <= facts["kept_epoch"] <= epochs
    assert list((tmp_path / "whole" / "maskgit" / "pictures").glob("views-*.png"))
