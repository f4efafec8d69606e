"""Stage: what each augmentation of a recipe costs, and how much it changes a tile.

The table is that of the dissertation's section on cost (distance between Gaussians of features, SSIM, time an image),
but for the recipe's own augmentations: in-painting at several mask probabilities, the plain reconstruction (p = 0),
each handcrafted step of the recipe alone and on every tile, and the whole suite.

Everything is done at the tiles' size, even if pretraining crops to a smaller one: the loss of resolution would hide
what an augmentation does.

Shapes: b tiles, n all tiles that are measured, c bands, h w pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom import tables
from gcl_custom.console import progress, say, warn
from gcl_custom.errors import UserError
from gcl_custom.generator.augment.interface import Generator
from gcl_custom.generator.loading import load_generator
from gcl_custom.generator.token_generator import TokenGenerator, view_of
from gcl_custom.imagery.tile_store import SplitName, TileStore, spread
from gcl_custom.measures.feature_networks import FeatureNetwork, feature_network, frechet_distance
from gcl_custom.measures.fid import FidNetwork, lacking
from gcl_custom.measures.similarity import perceptual_distance, structural_similarity
from gcl_custom.pictures import grid, save_picture
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import HandcraftedSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.training.devices import described, uses_bf16
from gcl_custom.training.stopwatch import Stopwatch, best_batch
from gcl_custom.views import cost_benefit_table
from gcl_custom.views.handcrafted import STEPS, handcrafted, paired

STAGE = "cost_benefit"
MASK_PROBABILITIES = (0.5, 0.75)
"""Compared with the recipe's own."""
HELD_OUT: tuple[SplitName, ...] = ("valid", "test")
"""Splits whose tiles are measured, the first that has enough."""
LEAST = 4
"""Fewest tiles: each half needs a covariance."""
BLOCK = 64
"""Tiles at a time where nothing is timed."""
SHOWN = 10
SEARCH_ROUNDS, ROUNDS = 3, 9
"""Timed calls of each batch in the search for the best one, and of each augmentation at the end."""
LONGEST = 2.0
"""Seconds; a batch that would take longer is not tried."""

Tiles = Float[Tensor, "b c h w"]
Numbers = Int[Tensor, " b"]


@dataclass(frozen=True)
class Augmentation:
    """A way to change tiles.

    Attributes:
        change: tiles in [0, 1] and their numbers in the store -> views in [0, 1].
        networks: those it computes with. files: where their weights are kept.
        stored: its views are made once and kept; those of others are drawn anew in each training step.
    """

    name: str
    change: Callable[[Tiles, Numbers], Tiles]
    networks: Sequence[nn.Module] = ()
    files: Sequence[Path] = ()
    stored: bool = False


def measure_cost_benefit(run: Run, most: int) -> None:
    """Measure every augmentation; write ``results.json``, ``table.md`` and ``augmentations.png``, show the table.

    Args:
        most: tiles to measure on.

    Raises:
        UserError: stale output, a generator that is not finished or does not fit, or too few tiles.
    """
    stage = plan.cost_benefit(run, most)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        return
    stage.require_inputs()
    store, weights = TileStore(plan.tiles(run).path), run.recipe.cost_benefit.fid_weights
    without_fid = lacking(weights, store.bands)
    # A mistake here shows before the stage begins.
    fid_network = FidNetwork(Path(weights)) if weights and not without_fid else None
    stage.begin()
    if weights and without_fid:
        warn(without_fid)
    generator = load_generator(run, store)
    split, numbers = held_out(store, most, "captions" in run.recipe.generator_stages)
    network = feature_network(run.recipe.generator.features).to(generator.device)
    fid_network = fid_network and fid_network.to(generator.device)
    found = list(augmentations(run, store, generator))
    with torch.inference_mode():
        tiles = store.unit(store.read(numbers).to(generator.device))
        benefit = Benefit(tiles, numbers, network, fid_network)
        with progress(len(found), STAGE, "augmentations") as ticker:
            rows = []
            for augmentation in found:
                rows.append({"name": augmentation.name, **benefit.of(augmentation), **needs(augmentation, store)})
                ticker.advance()
        for row, times in zip(rows, measured_times(found, tiles, numbers), strict=True):
            row |= times
        shown = spread(torch.arange(len(numbers)), SHOWN)
        views = [augmentation.change(tiles[shown], numbers[shown]) for augmentation in found]
        picture = grid([tiles[shown], *views], store.quicklook(run.recipe.data.quicklook))
        floor = benefit.floor(run.recipe.seed)
    results = {
        "tiles": len(numbers),
        "split": split,
        "size": store.size,
        "feature_network": network.name,
        "fid_network": fid_network.name if fid_network else None,
        "without_fid": without_fid,
        "device": described(generator.device),
        "precision": "bf16" if uses_bf16(run.recipe.hardware, generator.device) else "fp32",
        "floor": floor["feature_distance"],
        "fid_floor": floor.get("fid"),
        "augmentations": rows,
    }
    save_picture(stage.path / "augmentations.png", picture)
    tables.publish(stage.path, results, *cost_benefit_table.table(results), cost_benefit_table.note(results))
    stage.finish(measured_tiles=len(numbers), augmentations=len(rows))
    say(f"{STAGE}: table, picture and results in {stage.path}")


def held_out(store: TileStore, most: int, captioned: bool) -> tuple[str, Int[Tensor, " n"]]:
    """Validation tiles, since people choose by this table; test tiles if there are too few of them.

    Args:
        captioned: whether the generator reads captions. Test tiles have none, so none of them is taken.

    Raises:
        UserError: too few of both.
    """
    for split in HELD_OUT[:1] if captioned else HELD_OUT:
        index = store.index(split)
        if len(index) >= LEAST:
            return split, spread(index, most)
    others = "(test tiles have no captions)" if captioned else f"and fewer than {LEAST} test tiles"
    raise UserError(
        f"{store.path} holds fewer than {LEAST} validation tiles {others}, too few for a "
        f"feature distance. Add tiles, or raise data.split.valid, and run gcl-custom fit-generator again"
    )


def augmentations(run: Run, store: TileStore, generator: Generator) -> Iterator[Augmentation]:
    """The augmentations of a recipe, generative ones first."""
    yield from generative(run, generator)
    recipe, settings = run.recipe, run.recipe.pretrain.handcrafted

    def drawn(numbers: Numbers, device: torch.device) -> Randomness:
        return Randomness(recipe.seed, STAGE, 0, numbers.to(device))

    def step(tiles: Tiles, numbers: Numbers, name: str, alone: HandcraftedSettings) -> Tiles:
        return paired(tiles, [name], alone, store.size, store.rgb, drawn(numbers, torch.device("cpu")))

    def suite(tiles: Tiles, numbers: Numbers, view: int) -> Tiles:
        return handcrafted(tiles, settings, view, store.size, store.rgb, drawn(numbers, torch.device("cpu")))

    for name in STEPS:
        if alone := certain(settings, name):
            yield Augmentation(name.replace("_", " "), partial(step, name=name, alone=alone))
    for view, place in enumerate(("first", "second")):
        yield Augmentation(f"suite, {place} view", partial(suite, view=view))


def generative(run: Run, generator: Generator) -> Iterator[Augmentation]:
    """The plain reconstruction, if any, and the recipe's views; random masks at other probabilities, too."""
    recipe, files = run.recipe, plan.weights(run)

    def again(tiles: Tiles, numbers: Numbers) -> Tiles:
        rng = Randomness(recipe.seed, STAGE, 0, numbers.to(generator.device))
        return generator.decode(generator.encode(tiles, rng))

    def view(tiles: Tiles, numbers: Numbers, at: Generator) -> Tiles:
        rng = Randomness(recipe.seed, STAGE, 0, numbers.to(at.device))
        features = at.encode(tiles, rng)
        return view_of(at, tiles, features, at.augment(features, rng), rng)

    if recipe.inpaints:  # the transformer has no part in it
        yield Augmentation("reconstruction, p = 0", again, generator.networks[:1], files[:1], stored=True)
    elif recipe.generator.reconstructs:
        yield Augmentation("reconstruction", again, generator.networks, files, stored=True)
    if recipe.random_masks:
        assert isinstance(generator, TokenGenerator)
        for p in sorted({recipe.views.mask_probability, *MASK_PROBABILITIES}):
            change = partial(view, at=generator.at(p))
            yield Augmentation(f"in-painting, p = {p:g}", change, generator.networks, files, stored=True)
    else:
        yield Augmentation(recipe.augmentation, partial(view, at=generator), generator.networks, files, stored=True)


def certain(settings: HandcraftedSettings, step: str) -> HandcraftedSettings | None:
    """The suite with a step on every tile; None if the recipe never takes the step.

    A crop has no probability: every handcrafted view has one.
    """
    value = getattr(settings, step)
    if step == "crop":
        return settings
    if isinstance(value, tuple):
        return settings.model_copy(update={step: (1.0, 1.0)}) if any(value) else None
    return settings.model_copy(update={step: 1.0}) if value else None


class Benefit:
    """How much views differ from their tiles.

    feature_distance: the Fréchet distance between tiles and views on a network's features; FID with another network.
    fid: the same with FID's network, if given. ssim, perceptual_distance: means over pairs of a tile and its view (see
    similarity).
    """

    def __init__(
        self,
        tiles: Float[Tensor, "n c h w"],
        numbers: Int[Tensor, " n"],
        network: FeatureNetwork,
        fid_network: FidNetwork | None = None,
    ) -> None:
        self._tiles, self._numbers, self._network = tiles, numbers, network
        self._pooled = {"feature_distance": network.pooled} | ({"fid": fid_network.pooled} if fid_network else {})
        self._features = {
            name: torch.cat([pooled(some) for some in tiles.split(BLOCK)]) for name, pooled in self._pooled.items()
        }

    def floor(self, seed: int) -> dict[str, float]:
        """The distances between two random halves of the tiles, which are due to chance alone."""
        order = Randomness(seed, STAGE, 0, self._numbers).uniform("half").argsort().to(self._tiles.device)
        return {
            name: frechet_distance(features[order[0::2]], features[order[1::2]])
            for name, features in self._features.items()
        }

    def of(self, augmentation: Augmentation) -> dict[str, float]:
        features: dict[str, list[Tensor]] = {name: [] for name in self._pooled}
        ssim, perceptual = 0.0, 0.0
        for tiles, numbers in zip(self._tiles.split(BLOCK), self._numbers.split(BLOCK), strict=True):
            views = augmentation.change(tiles, numbers)
            for name, pooled in self._pooled.items():
                features[name].append(pooled(views))
            ssim += structural_similarity(views, tiles).sum().item()
            perceptual += len(tiles) * perceptual_distance(self._network, views, tiles).item()
        distances = {name: frechet_distance(self._features[name], torch.cat(of)) for name, of in features.items()}
        return {**distances, "ssim": ssim / len(self._tiles), "perceptual_distance": perceptual / len(self._tiles)}


def needs(augmentation: Augmentation, store: TileStore) -> dict[str, int | float]:
    """Parameters, megabytes of weights on the disk, and megabytes of a thousand stored views."""
    tile = store.bands * store.size**2 * np.dtype(store.dtype).itemsize
    weights = [p for network in augmentation.networks for p in network.parameters()]
    files = [path.stat().st_size for path in augmentation.files]
    return {
        "parameters": sum(p.numel() for p in weights),
        # Weights from elsewhere are no file of the run; their size in memory stands for it.
        "megabytes": sum(files or [p.numel() * p.element_size() for p in weights]) / 1e6,
        "megabytes_of_1000_views": 1000 * tile / 1e6 if augmentation.stored else 0.0,
    }


def measured_times(
    found: Sequence[Augmentation], tiles: Float[Tensor, "n c h w"], numbers: Int[Tensor, " n"]
) -> list[dict[str, int | float]]:
    """Milliseconds a tile of each augmentation, with one tile at a time and at its best batch.

    Each round takes other tiles, since the time of in-painting depends on the number of hidden tokens.
    """
    watch = Stopwatch(tiles.device)

    def work(number: int, augmentation: Augmentation, batch: int) -> None:
        start = number * batch % (len(tiles) - batch + 1)
        augmentation.change(tiles[start : start + batch], numbers[start : start + batch])

    def seconds_of(batch: int, augmentation: Augmentation) -> float:
        # The least, since other load on the machine can only add to it.
        return watch.in_turn({"": partial(work, augmentation=augmentation, batch=batch)}, SEARCH_ROUNDS, min)[""]

    say(f"{STAGE}: timing, one tile at a time and at the best batch ...")
    batches = [best_batch(partial(seconds_of, augmentation=a), len(tiles), LONGEST) for a in found]
    one, best = (
        watch.in_turn({a.name: partial(work, augmentation=a, batch=b) for a, b in zip(found, at, strict=True)}, ROUNDS)
        for at in ([1] * len(found), batches)
    )
    return [
        {"ms_alone": 1e3 * one[a.name], "ms_at_best": 1e3 * best[a.name] / batch, "best_batch": batch}
        for a, batch in zip(found, batches, strict=True)
    ]
