"""Features of many tiles, and the tiles that edits are learned on."""

from pathlib import Path

import pytest
import torch
from token_runs import edited_latent, with_tokenizer
from torch import Tensor

from gcl_custom.generator.encoding import BLOCK, encoded, rows_of, some_tiles
from gcl_custom.generator.public.icgan import Features
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import LatentNoiseSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(tmp_path_factory.mktemp("edits") / "r").path


@pytest.mark.parametrize("named", [False, True])
def test_many_tiles_are_encoded_a_block_at_a_time(folder: Path, named: bool) -> None:
    """Features may be a tensor, or several with names."""
    run, store, generator = edited_latent(folder, LatentNoiseSettings(name="noise"))
    seen = list[int]()

    def encode(some: Tensor, rng: Randomness) -> object:
        seen.append(len(some))
        means = some.mean((2, 3))
        return Features(rng.tiles[:, None].float(), means) if named else means

    generator.encode = encode  # type: ignore[method-assign, assignment]
    tiles, rows = torch.arange(BLOCK + 8) % store.count, torch.tensor([3, 0, 3])
    found = encoded(run, store, generator, tiles)
    assert seen == [BLOCK, 8]
    means = store.unit(store.read(tiles)).mean((2, 3))
    if named:
        assert torch.equal(found.condition[:, 0], tiles.float())
        assert torch.equal(found.z, means)
        assert torch.equal(rows_of(found, rows).condition[:, 0], tiles[rows].float())
        assert torch.equal(rows_of(found, rows).z, means[rows])
    else:
        assert torch.equal(found, means)
        assert torch.equal(rows_of(found, rows), means[rows])


def test_edits_are_learned_on_training_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, store, _ = edited_latent(folder, LatentNoiseSettings(name="noise"))
    assert torch.equal(some_tiles(store), store.index("train"))
    monkeypatch.setattr("gcl_custom.generator.encoding.LATENTS", 4)
    few = some_tiles(store)
    assert len(few) == len(few.unique()) == 4
    assert torch.isin(few, store.index("train")).all()
