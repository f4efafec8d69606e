"""The edit of latents that a recipe chose."""

from functools import partial
from typing import Any

from gcl_custom.generator.augment.latent_edits import Edit, Edited, Interpolation, LatentGenerator, noise
from gcl_custom.generator.augment.navigator import Navigator
from gcl_custom.generator.augment.steering import Steering
from gcl_custom.generator.encoding import encoded, encoder
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.recipe.views import InterpolationSettings, LatentNoiseSettings, NavigatorSettings, SteeringSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.weights.state_dicts import load_weights


def learned(run: Run, generator: LatentGenerator[Any], latent: tuple[int, ...]) -> Steering | Navigator:
    """The edit before any training.

    Args:
        latent: shape of one tile's latent.
    """
    settings = run.recipe.views.strategy
    if isinstance(settings, SteeringSettings):
        return Steering(settings.edit, latent).to(generator.device)
    assert isinstance(settings, NavigatorSettings)
    return Navigator(latent, generator.mean, generator.deviation).to(generator.device)


def with_chosen_edit(run: Run, store: TileStore, generator: LatentGenerator[Any]) -> Edited[Any]:
    """The generator with the edit of ``views.strategy`` as its augmentation.

    Raises:
        UserError: the weights of a learned edit are missing or do not fit.
    """
    settings = run.recipe.views.strategy
    edit: Edit
    match settings:
        case LatentNoiseSettings(strength=strength):
            edit = partial(noise, strength=strength, mean=generator.mean, deviation=generator.deviation)
        case InterpolationSettings(strength=strength):
            way = Interpolation(generator, store.index("train"), encoder(run, store, generator))
            edit = partial(way.apply_to, strength=strength)
        case SteeringSettings(strength=strength) | NavigatorSettings(strength=strength):
            features = encoded(run, store, generator, store.index("train")[:1])
            network = learned(run, generator, tuple(generator.latent(features).shape[1:]))
            load_weights(plan.edit(run).path / plan.EDIT, network)
            edit = partial(network.eval().requires_grad_(False).apply_to, strength=strength)
        case _:
            raise AssertionError(f"{settings} edits no latent")
    return Edited(generator, edit)
