"""Edits as a recipe chooses them: what strength 0 gives, and whom interpolation goes to."""

from pathlib import Path

import pytest
import torch
from token_runs import edited_latent, with_tokenizer
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.latent_edits import partners
from gcl_custom.generator.chosen_edit import learned, with_chosen_edit
from gcl_custom.generator.vqgan_latent import VqganLatent
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.views import (
    InterpolationSettings,
    LatentNoiseSettings,
    NavigatorSettings,
    SteeringSettings,
)
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import save_weights

LATENT = (4, 4, 4)


EDITS = {
    "noise": LatentNoiseSettings(name="noise", strength=0.0),
    "interpolation": InterpolationSettings(name="interpolation", strength=0.0),
    "steering": SteeringSettings(name="steering", edit="shift", strength=0.0),
    "navigator": NavigatorSettings(name="navigator", strength=1e-6),  # 0 is none
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(tmp_path_factory.mktemp("edits") / "r").path


def draws(tiles: Tensor, which: int = 0) -> Randomness:
    return Randomness(0, "views", which, tiles)


def with_random_weights(run: Run, generator: VqganLatent) -> None:
    """An edit as if it had been learned."""
    torch.manual_seed(0)
    network = learned(run, generator, LATENT)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    stage = plan.edit(run)
    stage.begin()
    save_weights(stage.path / plan.EDIT, network)
    stage.finish()


@pytest.mark.parametrize("name", EDITS)
def test_at_strength_0_the_latent_stays_and_at_1_it_moves(folder: Path, name: str, tmp_path: Path) -> None:
    for strength in (0.0, 1.0):
        strategy = EDITS[name] if strength == 0 else EDITS[name].model_copy(update={"strength": 1.0})
        run, store, generator = edited_latent(folder, strategy)
        if name in ("steering", "navigator"):
            run = Run(Path(with_tokenizer(tmp_path / f"{strength:g}").path), run.recipe)
            with_random_weights(run, generator)
        tiles = torch.arange(store.count)
        features = generator.encode(store.unit(store.read(tiles)), draws(tiles))
        moved = with_chosen_edit(run, store, generator).augment(features, draws(tiles))
        if strength == 0:
            torch.testing.assert_close(moved, features, atol=1e-4, rtol=1e-4)
        else:
            assert ((moved - features).abs().amax((1, 2, 3)) > 0.01 * features.std()).all()
        alone = with_chosen_edit(run, store, generator).augment(features[4:5], draws(tiles[4:5]))
        torch.testing.assert_close(alone, moved[4:5])


def test_interpolation_goes_to_another_training_tile(folder: Path) -> None:
    run, store, generator = edited_latent(folder, InterpolationSettings(name="interpolation", strength=1.0))
    tiles, train = torch.arange(store.count), store.index("train").sort().values
    assert len(train) < store.count
    features = generator.encode(store.unit(store.read(tiles)), draws(tiles))
    for which in range(4):
        moved = with_chosen_edit(run, store, generator).augment(features, draws(tiles, which))
        distances = (moved[:, None] - features[None]).square().mean((2, 3, 4))
        found = distances.argmin(dim=1)
        assert distances.amin(dim=1).max() < 1e-10
        assert torch.equal(found, partners(draws(tiles, which), train))
        assert torch.isin(found, train).all()
        assert (found != tiles).all()


def test_a_learned_edit_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run, store, generator = edited_latent(with_tokenizer(tmp_path / "r").path, EDITS["steering"])
    with pytest.raises(UserError, match=r"edit\.safetensors"):
        with_chosen_edit(run, store, generator)
    with_random_weights(run, generator)
    other, *_ = edited_latent(run.path, EDITS["navigator"])
    with pytest.raises(UserError, match="does not fit Navigator: missing"):
        with_chosen_edit(other, store, generator)
