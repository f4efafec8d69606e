"""Stages: make the generative views of every training tile, and plain reconstructions as a control.

Both fill a view store. A view is a function of (seed, number of the view, tile), so an interrupted store ends with the
same bytes. With views.least_similarity, each view is then compared with its tile by the features of a frozen network,
and pretraining leaves out views that lost their content.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor

from gcl_custom.console import say, warn
from gcl_custom.counted import counted
from gcl_custom.generator.augment.interface import Generator, changed
from gcl_custom.generator.encoding import draws, encoder
from gcl_custom.generator.loading import load_generator, load_unedited, reconstruct
from gcl_custom.generator.token_generator import TokenGenerator, view_of
from gcl_custom.imagery.tile_store import TileStore, thinned
from gcl_custom.measures.feature_networks import FeatureNetwork, feature_network, frechet_distance
from gcl_custom.measures.recognised import recognised
from gcl_custom.pictures import grid, save_picture
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.training.shared_blocks import Hands, each, following
from gcl_custom.views.fills import filled
from gcl_custom.views.view_store import Block, Make, ViewStore, ViewWriter, Written, write_similarity

STAGE = "views"
SHOWN = 10
MEASURED = 512
"""Most training tiles that feature distances are computed from."""
LESS_CHANGE = (
    "pairs of a tile and such a view teach to ignore what tells classes apart. Lower views.mask_probability, keep "
    "views.pixels: own, or train the generator longer"
)


def make_views(run: Run) -> None:
    """Make generative views of every training tile, ``views.per_tile`` of each.

    Raises:
        UserError: stale output, a generator that is missing or does not fit, or a full disk.
    """
    stage = plan.views(run)
    if stage.done:
        say(f"{STAGE}: done before, in {stage.path}")
        _say_similarity(run)
        return
    stage.begin()
    settings, store = run.recipe.views, TileStore(plan.tiles(run).path)
    # With several processes each process loads a generator of its own.
    generator = load_generator(run, store) if run.recipe.hardware.processes == 1 else None
    written = _write(run, stage, settings.per_tile, partial(_view, generator=generator))
    generator = generator or load_generator(run, store)
    train = store.index("train")
    views, sample, shown = len(train) * settings.per_tile, thinned(train, MEASURED), thinned(train, SHOWN)
    rng, made = draws(run, shown.to(generator.device)), ViewStore(stage.path)
    features = encoder(run, store, generator)(shown, rng)
    *rows, _ = generator.shown(store.unit(store.read(shown)), features, rng)
    kept = store.unit(made.read(shown, torch.zeros_like(shown)))  # what pretraining will see, also of a control
    quicklook = store.quicklook(run.recipe.data.quicklook)
    save_picture(stage.path / "views.png", grid([*rows, kept.to(generator.device)], quicklook))
    network = feature_network(run.recipe.generator.features).to(generator.device)
    originals = _features(network, sample, lambda tiles: store.unit(store.read(tiles)))
    painted = _features(network, sample, lambda tiles: store.unit(made.read(tiles, torch.zeros_like(tiles))))
    facts = {"views_per_second": _rate(run, views, written), "feature_distance": frechet_distance(originals, painted)}
    line = f"{STAGE}: {counted(views, 'view')} at {facts['views_per_second']:.1f} a second"
    if written.changed:
        facts["changed_tokens"] = written.changed / views
        line += f"; {facts['changed_tokens']:.1%} of the tokens changed"
    line += f"; feature distance to the tiles {facts['feature_distance']:.2f}"
    if run.recipe.generator.reconstructs:
        plain = _features(network, sample, reconstruct(run, store, generator))
        facts["feature_distance_reconstructions"] = frechet_distance(originals, plain)
        line += f", of plain reconstructions {facts['feature_distance_reconstructions']:.2f}"
    found = recognised(originals, painted, store.labels[sample], store.kind)
    warnings: list[str] = []
    if found:
        facts |= found.facts()
        line += f"\n{STAGE}: in them, {found}"
        if loss := found.warning("views", LESS_CHANGE):
            warnings.append(loss)
            warn(f"{STAGE}: {loss}")
    if settings.least_similarity is not None:
        write_similarity(stage.path, store, settings.batch, partial(_similarity, network, store), stage.tick)
        facts["similarity"] = ViewStore(stage.path).similarity.mean().item()
    stage.finish(**facts, feature_network=network.name, measured_tiles=len(sample), warnings=warnings)
    say(line)
    _say_similarity(run)


def try_generator(run: Run) -> None:
    """Load the generator before anything long begins, to fail early.

    Raises:
        UserError: its weights are missing or do not fit, or it cannot see tiles of these bands.
    """
    load_unedited(run, TileStore(plan.tiles(run).path))
    say(f"generator: {run.recipe.generator.name} is there and fits")


def make_reconstructions(run: Run) -> None:
    """Encode every training tile and decode it again, without augmentation.

    Raises:
        UserError: stale output, a tokenizer that is missing or does not fit, or a full disk.
    """
    stage = plan.reconstructions(run)
    if stage.done:
        say(f"reconstructions: done before, in {stage.path}")
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    written = _write(run, stage, 1, _reconstruction)
    stage.finish(views_per_second=_rate(run, len(store.index("train")), written))
    say(f"reconstructions: {counted(len(store.index('train')), 'tile')}, in {stage.path}")


def _view(run: Run, store: TileStore, generator: Generator | None) -> Make:
    loaded = generator or load_generator(run, store)
    encode, fill = encoder(run, store, loaded), run.recipe.views.fill

    def make(tiles: Int[Tensor, " b"], which: int) -> tuple[Real[Tensor, "b c h w"], float]:
        rng = draws(run, tiles.to(loaded.device), which)
        features, own = encode(tiles, rng), store.unit(store.read(tiles).to(loaded.device))
        if fill != "generated":
            assert isinstance(loaded, TokenGenerator), "the recipe was checked"
            return store.raw(filled(loaded, store, own, features, fill, rng)), 0.0
        augmented = loaded.augment(features, rng)
        return store.raw(view_of(loaded, own, features, augmented, rng)), changed(features, augmented)

    return make


def _reconstruction(run: Run, store: TileStore) -> Make:
    again = reconstruct(run, store)
    return lambda tiles, _: (store.raw(again(tiles)), 0.0)


def _write(run: Run, stage: Stage, per_tile: int, maker: Callable[[Run, TileStore], Make]) -> Written:
    """Fill a view store, on all devices."""
    writer = ViewWriter(stage.path, TileStore(plan.tiles(run).path), per_tile, run.recipe.views.batch)
    each(partial(_writing, run, stage, per_tile, maker), writer.pending, run.recipe.hardware)
    return writer.written


def _rate(run: Run, views: int, written: Written) -> float:
    """Views a second of all devices together."""
    return views * run.recipe.hardware.processes / written.seconds


@contextmanager
def _writing(run: Run, stage: Stage, per_tile: int, maker: Callable[[Run, TileStore], Make]) -> Iterator[Hands]:
    """Gives what makes and writes a block, in one of several processes."""
    store = TileStore(plan.tiles(run).path)
    writer, make = ViewWriter(stage.path, store, per_tile, run.recipe.views.batch), maker(run, store)
    total = len(writer.tiles) * per_tile
    with following(stage, total, stage.path.name, "views", lambda: writer.views) as follow:

        def keep(number: int, block: Block) -> None:
            writer.keep(number, block)
            follow()

        yield Hands(partial(writer.made, make=make), keep)


@torch.inference_mode()
def _similarity(
    network: FeatureNetwork, store: TileStore, tiles: Int[Tensor, " b"], views: Real[Tensor, "b k c h w"]
) -> Float[Tensor, "b k"]:
    """Cosine similarity between the pooled features of each tile and of its views."""
    device = network.mean.device
    own = network.pooled(store.unit(store.read(tiles).to(device)))
    of_views = [network.pooled(store.unit(some.to(device))) for some in views.unbind(dim=1)]
    return torch.stack([F.cosine_similarity(own, other) for other in of_views], dim=1)


def _say_similarity(run: Run) -> None:
    """Say how similar views are to their tiles, and which share of them is left out."""
    least = run.recipe.views.least_similarity
    if least is None:
        return
    similarity = ViewStore(plan.views(run).path).similarity
    low, high = np.quantile(similarity.numpy(), [0.05, 0.95])
    share = (similarity < least).double().mean().item()
    figures = f"on average {similarity.mean().item():.3f}, from {low:.3f} to {high:.3f} for nine in ten"
    say(f"{STAGE}: similarity of views to their tiles {figures}; {share:.1%} lie below {least:g} and are left out")
    if share > 0.5:
        warn(
            f"Most views are less similar to their tiles than views.least_similarity {least:g}, so handcrafted views "
            f"take the place of most generative ones. Lower it, or lower views.mask_probability"
        )


@torch.inference_mode()
def _features(
    network: FeatureNetwork, tiles: Int[Tensor, " m"], read: Callable[[Tensor], Float[Tensor, "b c h w"]]
) -> Float[Tensor, "m d"]:
    device = network.mean.device
    return torch.cat([network.pooled(read(some).to(device)) for some in torch.split(tiles, 64)])
