from pathlib import Path

import pytest
import torch
from token_runs import RECIPE, with_generator, with_tokenizer

from gcl_custom.errors import UserError
from gcl_custom.generator.loading import load_as_backbone, load_token_generator, load_tokenizer
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.generator import IcGanSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return with_generator(tmp_path_factory.mktemp("generator") / "r")


def tiles_of(run: Run) -> tuple[TileStore, torch.Tensor]:
    store = TileStore(plan.tiles(run).path)
    return store, store.unit(store.read(store.index("test")))


def test_a_histogram_counts_the_tokens_of_a_tile(run: Run) -> None:
    store, tiles = tiles_of(run)
    net, width = load_as_backbone(run, store, "tokens", "here")
    found = net.eval()(tiles)
    tokens = load_tokenizer(run, store).eval().tokenise(tiles)
    assert found.shape == (len(tiles), width)
    for row, grid in zip(found, tokens, strict=True):
        assert row.tolist() == [(grid == code).double().mean().item() for code in range(width)]


def test_states_are_those_that_give_the_logits(run: Run) -> None:
    store, tiles = tiles_of(run)
    net, width = load_as_backbone(run, store, "hidden", "here")
    found = net.eval()(tiles)
    generator = load_token_generator(run, store)
    tokens, maskgit = generator.tokenizer.tokenise(tiles), generator.maskgit
    states = maskgit.states(tokens)
    assert found.shape == (len(tiles), width)
    assert torch.allclose(found, states.mean(1))
    nothing = torch.zeros_like(tokens, dtype=torch.bool)
    assert torch.allclose(maskgit._logits(states).reshape(*tokens.shape, -1), maskgit(tokens, nothing), atol=1e-5)


def test_a_tile_is_read_alone_and_its_tokenizer_stays(run: Run) -> None:
    store, tiles = tiles_of(run)
    net, _ = load_as_backbone(run, store, "hidden", "here")
    assert torch.allclose(net.eval()(tiles)[:1], net(tiles[:1]), atol=1e-6)
    net(tiles).sum().backward()
    moved = {name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None}
    assert moved == {"maskgit"}


def test_a_generator_that_is_not_finished_or_not_our_own_is_named(tmp_path: Path, run: Run) -> None:
    half = with_tokenizer(tmp_path / "half")
    store = TileStore(plan.tiles(half).path)
    with pytest.raises(UserError, match=r"has not finished its maskgit. Run: gcl-custom fit-generator --run half"):
        load_as_backbone(half, store, "hidden", "here")
    load_as_backbone(half, store, "tokens", "here")
    settings = IcGanSettings(name="icgan", weights="x", encoder="y")
    other = Run(run.path, RECIPE.model_copy(update={"generator": settings}))
    with pytest.raises(UserError, match="icgan, has no tokens of its own"):
        load_as_backbone(other, store, "tokens", "here")
