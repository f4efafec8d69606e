"""The store of tokens: by the number of the tile, in all ways."""

import pickle
from pathlib import Path

import torch
from token_runs import RECIPE, with_tokenizer

from gcl_custom.generator.own.vqgan import VQGAN
from gcl_custom.generator.token_store import Tokens, tokenised
from gcl_custom.imagery.symmetry import turn
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.runs import plan
from gcl_custom.weights.state_dicts import load_weights


def test_tokens_are_those_of_the_turned_tiles(tmp_path: Path) -> None:
    run = with_tokenizer(tmp_path / "r")
    store = TileStore(plan.tiles(run).path)
    tokenizer = VQGAN(2, RECIPE.tokens.tokenizer).eval()
    load_weights(plan.tokenizer(run).path / "vqgan.safetensors", tokenizer)
    tokens = Tokens(plan.tokens(run).path, store)
    some = store.index("train")[torch.tensor([3, 0])]
    unit = store.unit(store.read(some))
    for way in range(2):
        with torch.no_grad():
            expected = tokenizer.tokenise(turn(unit, torch.full((2,), way)))
        assert torch.equal(tokens.read(some)[:, way], expected)
    assert torch.equal(pickle.loads(pickle.dumps(tokens)).read(some), tokens.read(some))


def test_training_and_validation_tiles_have_tokens_and_test_tiles_have_none(tmp_path: Path) -> None:
    store = TileStore(plan.tiles(with_tokenizer(tmp_path / "r")).path)
    numbers = set(tokenised(store).tolist())
    assert numbers == {*store.index("train").tolist(), *store.index("valid").tolist()}
    assert not numbers & set(store.index("test").tolist())


def test_counts_are_those_of_all_ways(tmp_path: Path) -> None:
    run = with_tokenizer(tmp_path / "r")
    store = TileStore(plan.tiles(run).path)
    tokens, tiles = Tokens(plan.tokens(run).path, store), store.index("train")
    expected = torch.tensor([(tokens.read(tiles) == code).sum() for code in range(8)])
    assert torch.equal(tokens.counts(tiles, 8), expected)
