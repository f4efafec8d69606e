"""Stage: learn an edit of latents, steering or a navigator, on a few hundred training tiles."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcl_custom.console import progress, say
from gcl_custom.counted import counted
from gcl_custom.files import UNREADABLE, damaged, write_atomically
from gcl_custom.generator.augment.edit_training import State
from gcl_custom.generator.augment.interface import picture_rows
from gcl_custom.generator.augment.navigator import Navigator, fit_navigator, small_encoder
from gcl_custom.generator.augment.steering import Steering, fit_steering
from gcl_custom.generator.chosen_edit import learned, with_chosen_edit
from gcl_custom.generator.encoding import encoded, rows_of, some_tiles
from gcl_custom.generator.loading import load_unedited
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.pictures import grid, save_picture
from gcl_custom.randomness import Randomness, derive
from gcl_custom.recipe.views import NavigatorSettings, SteeringSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.loop import CHECKPOINT
from gcl_custom.weights.state_dicts import save_weights

STAGE = "edit"
SHOWN = 8


def fit_edit(run: Run) -> None:
    """Learn the edit of ``views.strategy``, save ``edit.safetensors``, or go on where an earlier process stopped.

    Raises:
        UserError: stale output, a generator that is not there or does not fit, or a loss that is not finite.
    """
    stage, settings, seed = plan.edit(run), run.recipe.views.strategy, run.recipe.seed
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    assert isinstance(settings, SteeringSettings | NavigatorSettings)
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    generator = load_unedited(run, store)
    features = encoded(run, store, generator, some_tiles(store))
    latents = generator.latent(features).clone()
    torch.manual_seed(derive(seed, STAGE, "weights"))
    network = learned(run, generator, tuple(latents.shape[1:]))
    checkpoint = stage.path / CHECKPOINT
    state = _state(checkpoint)
    losses: dict[str, float] = state["losses"] if state else {}

    def render(latent: Tensor, which: Tensor) -> Tensor:
        return generator.render(generator.replaced(rows_of(features, which), latent))

    every = max(1, settings.steps // 10)
    with progress(settings.steps, STAGE, "steps") as ticker:
        ticker.skip(state["done"] if state else 0)

        def follow(done: int, now: Mapping[str, float], snapshot: Callable[[], State]) -> None:
            losses.update(now)
            ticker.advance()
            ticker.note("  ".join(f"{name} {value:.4g}" for name, value in now.items()))
            if done % every == 0:
                with write_atomically(checkpoint) as part:
                    torch.save({**snapshot(), "losses": losses}, part)
                stage.tick()

        if isinstance(network, Steering):
            fit_steering(network, render, latents, seed, settings.steps, state=state, progress=follow)
        else:
            assert isinstance(network, Navigator)
            opponent = small_encoder(store.bands).to(generator.device)
            play = partial(fit_navigator, network, opponent, render, latents, seed, settings.steps, settings.strength)
            play(state=state, progress=follow)
    save_weights(stage.path / plan.EDIT, network)
    tiles = spread(store.index("train"), SHOWN)
    rng, start = Randomness(seed, STAGE, 1, tiles.to(generator.device)), encoded(run, store, generator, tiles)
    with torch.inference_mode():
        shown = picture_rows(with_chosen_edit(run, store, generator), store.unit(store.read(tiles)), start, rng)
    save_picture(stage.path / "edits.png", grid(shown, store.quicklook(run.recipe.data.quicklook)))
    stage.finish(tiles=len(latents), **{f"loss_{name}": value for name, value in losses.items()})
    checkpoint.unlink(missing_ok=True)
    said = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    say(f"{STAGE}: learned in {counted(settings.steps, 'step')}, last losses {said}; picture in {stage.path}")


def _state(checkpoint: Path) -> Any:
    """The checkpoint, if there is one."""
    if not checkpoint.is_file():
        return None
    try:
        return torch.load(checkpoint, weights_only=True)
    except UNREADABLE as error:
        raise damaged(checkpoint, error) from None
