"""Edits of latents as a recipe chooses them: the generator whose latent is edited, and the edit itself."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom import plan
from gcl_custom import recipe_generator as recipes
from gcl_custom.generator.latent_edits import Edit, Edited, Interpolation, LatentGenerator, noise
from gcl_custom.generator.loading import draws, encoder
from gcl_custom.generator.navigator import Navigator
from gcl_custom.generator.steering import Steering
from gcl_custom.imagery import TileStore, spread
from gcl_custom.runs import Run
from gcl_custom.weights import load_weights

LATENTS = 256
"""Most training tiles whose latents tell the spread of all, and on which edits are learned."""
BLOCK = 32


def some_tiles(store: TileStore) -> Int[Tensor, " n"]:
    """The training tiles that edits are learned on, spread evenly."""
    return spread(store.index("train"), LATENTS)


def encoded(run: Run, store: TileStore, generator: LatentGenerator[Any], tiles: Int[Tensor, " n"]) -> Any:
    """Features of training tiles, a block at a time."""
    encode = encoder(run, store, generator)
    return joined([encode(some, draws(run, some.to(generator.device))) for some in tiles.split(BLOCK)])


def joined(parts: list[Any]) -> Any:
    """The features of several batches of tiles as those of one."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(values) for values in zip(*parts, strict=True)))


def rows_of(features: Any, rows: Int[Tensor, " b"]) -> Any:
    """Some tiles' features."""
    return features[rows] if isinstance(features, Tensor) else type(features)(*(value[rows] for value in features))


def learned(run: Run, generator: LatentGenerator[Any], latent: tuple[int, ...]) -> Steering | Navigator:
    """An edit before it has learned anything.

    Args:
        latent: shape of one tile's latent.
    """
    settings = run.recipe.views.strategy
    if isinstance(settings, recipes.Steering):
        return Steering(settings.edit, latent).to(generator.device)
    assert isinstance(settings, recipes.Navigator)
    return Navigator(latent, generator.mean, generator.deviation).to(generator.device)


def edited(run: Run, store: TileStore, generator: LatentGenerator[Any]) -> Edited[Any]:
    """The generator with the edit of ``views.strategy`` as its augmentation.

    Raises:
        UserError: the weights of a learned edit are missing or do not fit.
    """
    settings = run.recipe.views.strategy
    edit: Edit
    match settings:
        case recipes.LatentNoise(strength=strength):
            edit = partial(noise, strength=strength, mean=generator.mean, deviation=generator.deviation)
        case recipes.Interpolation(strength=strength):
            way = Interpolation(generator, store.index("train"), encoder(run, store, generator))
            edit = partial(way.apply_to, strength=strength)
        case recipes.Steering(strength=strength) | recipes.Navigator(strength=strength):
            features = encoded(run, store, generator, store.index("train")[:1])
            network = learned(run, generator, tuple(generator.latent(features).shape[1:]))
            load_weights(plan.edit(run).path / plan.EDIT, network)
            edit = partial(network.eval().requires_grad_(False).apply_to, strength=strength)
        case _:
            raise AssertionError(f"{settings} edits no latent")
    return Edited(generator, edit)
