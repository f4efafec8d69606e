"""Time, memory and disk of a recipe's stages, computed from the tiles and the costs of single batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gcl_custom.check.found_tiles import FoundTiles
from gcl_custom.check.step_costs import Cost, Costs, TokenCosts
from gcl_custom.counted import counted
from gcl_custom.imagery.symmetry import WAYS
from gcl_custom.pretraining.make_targets import BLOCK
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.runs import arms
from gcl_custom.weights.needed import named, published_speed

CAPTION = 100
"""Bytes of a caption, about."""
MEASURED, UNKNOWN = "measured", "not known"


@dataclass(frozen=True)
class StageCost:
    """A stage, in the table of what it takes."""

    name: str
    what: str
    seconds: float | None
    """None: not known."""
    memory: int | None
    disk: int
    source: str = MEASURED
    """Where the time comes from."""


def estimate(recipe: Recipe, tiles: FoundTiles, costs: Costs, weights: Mapping[str, int]) -> Iterator[StageCost]:
    """Steps, time, memory and disk of each stage.

    Args:
        weights: key of the recipe -> bytes of the weights that it names, as far as they are known.
    """
    data, settings = recipe.data, recipe.pretrain
    train = tiles.count("train")
    tile = tiles.form.bands * data.size**2 * np.dtype(tiles.form.dtype).itemsize
    yield StageCost("tiles", counted(len(tiles.split), "tile"), 0.0, 0, len(tiles.split) * tile)
    for name in arms.awaited_of_generator(recipe):
        yield from OF_GENERATOR[name](recipe, tiles, costs.tokens, weights)
    yield from _made(recipe, train, tile, costs.tokens, weights)

    of_targets = f"of {counted(train, 'tile')}"
    if costs.targets:
        block, width = costs.targets
        yield StageCost("targets", of_targets, train / BLOCK * block.seconds, block.memory, 4 * train * width)
    elif settings.predicted:
        yield StageCost("targets", of_targets, None, None, 4 * train * recipe.tokens.tokenizer.codes, UNKNOWN)
    steps = settings.epochs * _per_epoch(train, settings.tiles_per_step)
    seconds = steps * costs.pretrain.seconds
    number = len(arms.pretrainings(recipe))
    what, memory, kept = (
        f"{counted(steps, 'step')} of {settings.tiles_per_step}",
        costs.pretrain.memory,
        _kept(costs.pretrain),
    )
    yield StageCost("pretrain", what, seconds, memory, kept)
    if tiles.classes:
        if number > 1:
            more, what = number - 1, f"{number - 1} more of them"
            yield StageCost("other arms and seeds", what, more * seconds, memory, more * kept)
        yield _comparison(recipe, tiles, costs, number)


MaybeTokenCosts = TokenCosts | None
"""Costs of the batches of a token generator; None for other generators, and where weights are missing."""


def _tokenizer(
    recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    tokenizer = recipe.tokens.tokenizer
    size = weights.get("generator.tokenizer.weights", 0)
    steps = tokenizer.epochs * _per_epoch(tiles.count("train"), tokenizer.batch)
    what = f"{counted(steps, 'step')} of {tokenizer.batch}"
    if not steps:
        yield StageCost("tokenizer", "taken as it is", 0.0, 0, size)
    elif costs and costs.tokenizer and costs.adversary:
        joined = round(steps * (1 - tokenizer.adversary_start))
        seconds = (steps - joined) * costs.tokenizer.seconds + joined * costs.adversary.seconds
        memory = max(costs.tokenizer.memory, costs.adversary.memory if joined else 0)
        yield StageCost("tokenizer", what, seconds, memory, _kept(costs.adversary))
    else:
        yield StageCost("tokenizer", what, None, None, 4 * size, UNKNOWN)


def _tokens(
    recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    if not recipe.inpaints:  # otherwise they are counted with the transformer
        encoded, reading, kept = _encoded(recipe, tiles, costs)
        yield StageCost("tokens", f"{encoded:,} of them", reading, None, kept, MEASURED if costs else UNKNOWN)


def _maskgit(
    recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    maskgit = recipe.tokens.maskgit
    encoded, reading, kept = _encoded(recipe, tiles, costs)
    size = weights.get("generator.maskgit.weights", 0)
    steps = maskgit.epochs * _per_epoch(tiles.count("train"), maskgit.batch)
    what = (
        f"{'at most ' * bool(maskgit.patience)}{counted(steps, 'step')} of {maskgit.batch}"
        if steps
        else f"taken as it is; {counted(encoded, 'tile')} encoded"
    )
    if costs is None or reading is None:
        yield StageCost("maskgit", what, None, None, (4 if steps else 1) * size + kept, UNKNOWN)
    elif costs.maskgit is None:
        yield StageCost("maskgit", what, reading, costs.tokenise.memory, size + kept)
    else:
        seconds = steps * costs.maskgit.seconds + reading
        yield StageCost("maskgit", what, seconds, costs.maskgit.memory, _kept(costs.maskgit) + kept)


def _encoded(recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts) -> tuple[int, float | None, int]:
    """Number of tiles to encode, counting each way, with the seconds that it takes and the bytes of the tokens."""
    encoded = (tiles.count("train") + tiles.count("valid")) * WAYS[recipe.token_symmetry]
    kept = encoded * (recipe.data.size // recipe.tokens.tokenizer.pixels_per_token) ** 2 * 2
    return encoded, encoded / recipe.views.batch * costs.tokenise.seconds if costs else None, kept


def _captions(
    recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    count = tiles.count("train") + tiles.count("valid")
    yield StageCost("captions", counted(count, "tile"), None, None, count * CAPTION, UNKNOWN)


def _latents(
    recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    generator, count = recipe.generator, tiles.count("train")
    what = f"{counted(count, 'tile')}, {counted(generator.descent_steps, 'step')} each"
    yield StageCost("latents", what, None, None, count * 4 * generator.latent_numbers, UNKNOWN)


def _edit(recipe: Recipe, tiles: FoundTiles, costs: MaybeTokenCosts, weights: Mapping[str, int]) -> Iterator[StageCost]:
    assert recipe.views.strategy is not None
    yield StageCost("edit", counted(recipe.views.strategy.training_steps, "step"), None, None, 0, UNKNOWN)


OF_GENERATOR = {
    "tokenizer": _tokenizer,
    "tokens": _tokens,
    "maskgit": _maskgit,
    "captions": _captions,
    "latents": _latents,
    "edit": _edit,
}
"""Stages that a generator may need -> their row."""


def _made(
    recipe: Recipe, train: int, tile: int, costs: TokenCosts | None, weights: Mapping[str, int]
) -> Iterator[StageCost]:
    """Views and reconstructions. If they cannot be measured, a published time is taken where there is one."""
    number = train * recipe.views.per_tile
    alone = sum(weights.get(each.key, 0) for each in named(recipe) if each.makes_views) or None
    if arms.needs_views(recipe):
        what = counted(number, "view")
        if costs and costs.views:
            seconds = number / recipe.views.batch * costs.views.seconds
            yield StageCost("views", what, seconds, costs.views.memory, number * tile)
        elif speed := published_speed(recipe):
            source = f"published: {speed.milliseconds} ms a view ({speed.of})"
            yield StageCost("views", what, number * speed.milliseconds / 1000, alone, number * tile, source)
        else:
            yield StageCost("views", what, None, alone, number * tile, UNKNOWN)
    if arms.needs_reconstructions(recipe):
        what = counted(train, "tile")
        if costs:
            seconds = 2 * train / recipe.views.batch * costs.tokenise.seconds  # decoding costs about what encoding does
            yield StageCost("reconstructions", what, seconds, costs.tokenise.memory, train * tile)
        else:
            yield StageCost("reconstructions", what, None, alone, train * tile, UNKNOWN)


def _comparison(recipe: Recipe, tiles: FoundTiles, costs: Costs, pretrainings: int) -> StageCost:
    """Probes of backbones and floors, fine-tuning, and the supervised baselines.

    A learning rate is chosen with the first seed, so there is one training for each seed and one for each further rate.
    """
    compare = recipe.compare
    repeats = len(compare.seeds) + len(compare.learning_rates) - 1
    labelled = len(tiles.labelled)
    tuned, supervised = len(arms.pretrained(recipe)), len(arms.with_labels(recipe))
    steps = 0.0
    for fraction in compare.fractions:
        if fraction < 1:
            batch = min(compare.batch, tiles.share(fraction))
            steps += (tuned + supervised) * repeats * compare.finetune_steps * batch / compare.batch
    on_all = tuned * (1.0 in compare.fractions) + supervised
    per_epoch = _per_epoch(labelled, compare.batch)
    steps += on_all * repeats * compare.epochs_on_all(recipe.pretrain.epochs, per_epoch) * per_epoch
    probed = int(tiles.has_label.sum())
    embedded = (pretrainings + len(compare.seeds) + recipe.pretrain.continues) * probed  # untrained, and public
    seconds = steps * costs.supervised.seconds + embedded / compare.batch * costs.embed.seconds
    seconds += probed / compare.batch * costs.floors.seconds
    trained = f"at most {counted(round(steps), 'step')} of {compare.batch}, " if steps else ""
    what = f"{trained}{counted(embedded, 'tile')} embedded"
    return StageCost("compare", what, seconds, costs.supervised.memory, 3 * 4 * costs.supervised.parameters)


def _per_epoch(tiles: int, batch: int) -> int:
    return max(1, tiles // batch)


def _kept(cost: Cost) -> int:
    """Bytes of the last checkpoint (weights and two moments) and of the final weights."""
    return 4 * 4 * cost.parameters
