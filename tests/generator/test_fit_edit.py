"""The stage that learns an edit: exact resumption, what it leaves behind, and views by what was learned."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from token_runs import RECIPE, with_tokenizer

from gcl_custom.errors import UserError
from gcl_custom.generator import fit_edit
from gcl_custom.generator.augment import navigator, steering
from gcl_custom.generator.augment.interface import picture_rows
from gcl_custom.generator.loading import load_generator, load_unedited
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.views import NavigatorSettings, SteeringSettings, ViewsSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.loop import CHECKPOINT
from gcl_custom.views import make_views
from gcl_custom.views.view_store import ViewStore

STEPS = 20
STRATEGIES = {
    "steering": SteeringSettings(name="steering", edit="zoom", steps=STEPS),
    "navigator": NavigatorSettings(name="navigator", strength=0.8, steps=STEPS),
}
LOSSES = {"steering": (steering.Steering, "loss", 1), "navigator": (navigator, "contrastive_loss", 2)}
"""What computes a loss, and how often it does so in a step."""


def recipe(name: str) -> Recipe:
    return RECIPE.model_copy(update={"views": ViewsSettings(strategy=STRATEGIES[name])})


def dying(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A function that kills its process, as kill -9 does, at a call counted from 1."""
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


def work(folder: Path, name: str, killed: int | str | None) -> None:
    """Learn, and die in the middle of a step, or, with a word, once all steps are done."""
    torch.set_num_threads(1)
    if isinstance(killed, int):
        place, attribute, in_a_step = LOSSES[name]
        setattr(place, attribute, dying(getattr(place, attribute), in_a_step * killed))
    elif killed:
        fit_edit.save_weights = dying(fit_edit.save_weights, 1)
    fit_edit.fit_edit(Run(folder, recipe(name)))


def learn(folder: Path, name: str, *kills: int | str | None) -> Run:
    with_tokenizer(folder, recipe(name))
    for killed in (*kills, None):
        process = multiprocessing.get_context("fork").Process(target=work, args=(folder, name, killed))
        process.start()
        process.join()
        assert process.exitcode == (0 if killed is None else -signal.SIGKILL)
    return Run(folder, recipe(name))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Killed before the first checkpoint, between two, and between the last and the end."""
    whole = learn(tmp_path / "whole", name)
    killed = learn(tmp_path / "killed", name, 2, 10, "saving")
    files = [(plan.edit(run).path / plan.EDIT).read_bytes() for run in (whole, killed)]
    assert files[0] == files[1]
    assert plan.edit(whole).facts == plan.edit(killed).facts
    assert plan.edit(whole).facts["tiles"] == 10
    assert len([key for key in plan.edit(whole).facts if key.startswith("loss_")]) == LOSSES[name][2]
    assert not (plan.edit(killed).path / CHECKPOINT).exists()
    assert (plan.edit(killed).path / "edits.png").is_file()


def test_it_learns_on_the_latents_of_training_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = with_tokenizer(tmp_path / "r")
    run = Run(run.path, recipe("steering"))
    fit_edit.fit_edit(run)
    store = TileStore(plan.tiles(run).path)
    generator, tiles = load_unedited(run, store), store.index("train")
    latents = generator.encode(store.unit(store.read(tiles)), Randomness(0, "edit", 0, tiles)).clone()
    expected = steering.Steering("zoom", tuple(latents.shape[1:]))
    steering.fit_steering(expected, lambda latent, which: generator.render(latent), latents, 0, STEPS)
    saved = load_file(plan.edit(run).path / plan.EDIT)
    assert saved.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(saved[name], value)
        assert value.abs().max() > 0.01
    capsys.readouterr()
    fit_edit.fit_edit(run)
    assert "edit: done before" in capsys.readouterr().out


def test_views_are_moved_by_what_was_learned(tmp_path: Path) -> None:
    run = learn(tmp_path / "r", "navigator")
    make_views.make_views(run)
    store, made = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    generator, tiles = load_generator(run, store), store.index("train")
    pixels, rng = store.unit(store.read(tiles)), Randomness(0, "views", 0, tiles)
    again, views = picture_rows(generator, pixels, generator.encode(pixels, rng), rng)[1:]
    stored = made.read(tiles, torch.zeros_like(tiles))
    assert torch.equal(stored, store.raw(views))
    assert ((views - again).abs().amax((1, 2, 3)) > 1e-3).sum() >= 8, "a short step may stay at the same codes"
    assert not torch.equal(stored, store.read(tiles))


def test_without_a_tokenizer_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gcl-custom fit-generator"):
        fit_edit.fit_edit(Run(tmp_path / "r", recipe("steering")))
