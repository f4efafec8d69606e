"""The stage that tokenises: once, in every way, and never half."""

from pathlib import Path

import numpy as np
import pytest
from token_runs import continued, with_tokenizer

from gcl_custom.generator import tokenise
from gcl_custom.generator.token_store import tokenised
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan


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
    monkeypatch.setattr(tokenise, "write_tokens", lambda *_: pytest.fail("tokenised again"))
    tokenise.tokenise(run)


def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_tokenizer(tmp_path / "r")
    stage = plan.tokens(run)
    for path in stage.path.iterdir():
        path.unlink()
    monkeypatch.setattr(tokenise, "turn", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tokenise.tokenise(run)
    assert [path.name for path in stage.path.iterdir()] == ["working.json"]
