"""Features of the tiles of a store: read from a stage's output where there is one, otherwise encoded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gcl_custom.generator.augment.interface import Generator
from gcl_custom.generator.augment.latent_edits import LatentGenerator
from gcl_custom.generator.latent_store import Latents
from gcl_custom.generator.token_store import Tokens
from gcl_custom.imagery.tile_store import TileStore, spread
from gcl_custom.randomness import Randomness
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run

Encode = Callable[[Int[Tensor, " b"], Randomness], Any]
"""Numbers of tiles -> their features."""


def draws(run: Run, tiles: Int[Tensor, " b"], view: int = 0) -> Randomness:
    """The random numbers of a view of some tiles. Encoding draws those of view 0."""
    return Randomness(run.recipe.seed, "views", view, tiles)


def encoder(run: Run, store: TileStore, generator: Generator | LatentGenerator[Any]) -> Encode:
    """What gives the features that views of training tiles start from: stored tokens or latents, or encoded tiles.

    Several views of the same tiles share these features, unless each view lays the tile at another place.
    """
    strategy = run.recipe.views.strategy
    if run.recipe.generator.inverts:
        latents, features = Latents(plan.latents(run).path, store), INVERTED[run.recipe.generator.name]()
        return lambda tiles, _: features(**{n: value.to(generator.device) for n, value in latents.read(tiles).items()})
    moves = strategy is not None and strategy.moves_tiles
    if run.recipe.inpaints and not moves:
        stored = Tokens(plan.tokens(run).path, store)
        return lambda tiles, _: stored.read(tiles)[:, 0].to(generator.device)
    kept: list[tuple[Tensor, Any]] = []

    def encode(tiles: Int[Tensor, " b"], rng: Randomness) -> Any:
        if moves:
            return generator.encode(store.unit(store.read(tiles)), rng)
        if not kept or not torch.equal(kept[0][0], tiles):
            kept[:] = [(tiles, generator.encode(store.unit(store.read(tiles)), replace(rng, step=0)))]
        return kept[0][1]

    return encode


def _of_icgan() -> Callable[..., Any]:
    from gcl_custom.generator.public.icgan import Features

    return Features


INVERTED = {"icgan": _of_icgan}
"""Name of a family whose tiles are inverted -> what gives the class of its features."""
LATENTS = 256
"""Most training tiles for the spread of latents and for learning an edit."""
BLOCK = 32


def some_tiles(store: TileStore) -> Int[Tensor, " n"]:
    """The training tiles for learning an edit, spread evenly."""
    return spread(store.index("train"), LATENTS)


def encoded(run: Run, store: TileStore, generator: LatentGenerator[Any], tiles: Int[Tensor, " n"]) -> Any:
    """Features of training tiles, a block at a time."""
    encode = encoder(run, store, generator)
    return joined([encode(some, draws(run, some.to(generator.device))) for some in tiles.split(BLOCK)])


def joined(parts: list[Any]) -> Any:
    """The features of several batches of tiles, as one batch."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(values) for values in zip(*parts, strict=True)))


def rows_of(features: Any, rows: Int[Tensor, " b"]) -> Any:
    """Some tiles' features."""
    return features[rows] if isinstance(features, Tensor) else type(features)(*(value[rows] for value in features))
