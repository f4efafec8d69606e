"""The stage that tokenises: once, in every way, and with exact resumption."""

import multiprocessing
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from dying import dies_at
from launched_processes import Two
from token_runs import continued, with_tokenizer
from torch import Tensor

from gcl_custom.arrays import BlockedArray
from gcl_custom.generator import tokenise
from gcl_custom.generator.build_networks import AnyTokenizer
from gcl_custom.generator.token_store import FILE, tokenised
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


def test_every_tile_in_every_way(tmp_path: Path) -> None:
    run = with_tokenizer(tmp_path / "r")
    stage = plan.tokens(run)
    stored = np.load(stage.path / "tokens.npy")
    assert stored.shape == (len(tokenised(TileStore(plan.tiles(run).path))), 2, 4, 4)
    assert stored.dtype == np.uint16
    assert stage.facts == {"tiles": len(stored), "ways": 2}


def test_only_upright_where_no_transformer_is_trained_on_the_tokens(tmp_path: Path) -> None:
    run = with_tokenizer(tmp_path / "r", continued(0, tmp_path / "maskgit.safetensors"))
    trained = with_tokenizer(tmp_path / "trained")
    upright, all_ways = (np.load(plan.tokens(one).path / "tokens.npy") for one in (run, trained))
    assert upright.shape[1] == 1
    assert np.array_equal(upright[:, 0], all_ways[:, 0])


def test_it_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_tokenizer(tmp_path / "r")
    monkeypatch.setattr(tokenise, "load_tokenizer", lambda *_: pytest.fail("tokenised again"))
    tokenise.tokenise(run)


def work(run: Run, killed_at: int | None) -> None:
    """Tokenise, and die once the tokens of a block were found but before they are kept."""
    torch.set_num_threads(1)
    found = dies_at(BlockedArray, "keep", killed_at)
    tokenise.tokenise(run)
    assert len(found) == 2, "what was kept is not found again"


def test_a_killed_run_goes_on_to_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "BLOCK", 3)
    run = with_tokenizer(tmp_path / "r")
    stage = plan.tokens(run)
    whole, facts, count = (stage.path / FILE).read_bytes(), stage.facts, len(np.load(stage.path / FILE))
    assert count == 10, "blocks of 3, 3, 3 and 1"
    shutil.rmtree(stage.path)
    for killed_at in (1, 3, None):
        process = multiprocessing.get_context("fork").Process(target=work, args=(run, killed_at))
        process.start()
        process.join()
        assert process.exitcode == (0 if killed_at is None else -signal.SIGKILL)
    stage = plan.tokens(run)
    assert (stage.path / FILE).read_bytes() == whole
    assert stage.facts == facts


def test_two_processes_make_the_tokens_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "BLOCK", 3)
    run = with_tokenizer(tmp_path / "r")
    stage, make = plan.tokens(run), tokenise._tokens
    whole, facts = (stage.path / FILE).read_bytes(), stage.facts
    shutil.rmtree(stage.path)

    def noted(run: Run, store: TileStore, tokenizer: AnyTokenizer, tiles: Tensor) -> np.ndarray:
        (tmp_path / f"{len(tiles)}-{tiles[0]}-{os.getpid()}").touch()
        return make(run, store, tokenizer, tiles)

    monkeypatch.setattr(tokenise, "_tokens", noted)
    hardware = run.recipe.hardware.model_copy(update={"nodes": 2})
    together = Run(run.path, run.recipe.model_copy(update={"hardware": hardware}))
    two = Two(partial(tokenise.tokenise, together), folder=tmp_path)
    assert (two.codes(), two.error) == ([0, 0], "")
    stage = plan.tokens(run)
    assert (stage.path / FILE).read_bytes() == whole
    assert stage.facts == facts
    makers = [path.name.rpartition("-")[2] for path in tmp_path.glob("[0-9]*-*")]
    assert sorted(map(makers.count, set(makers))) == [2, 3], "two blocks each, and one tile for the shape"
