"""Stage: label-free measures of a pretrained backbone and of its generative views. Reads no label.

    n  tiles     q  handcrafted views of each     d  width of a representation

RankMe and the slope of the spectrum are taken from the representations of whole tiles, LiDAR from those of handcrafted
views: half of them drawn as the first of a pair, half as the second. All backbones of a recipe see the same tiles and
the same views. Unlike in the papers, these are representations, not projections: they are what is used afterwards.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom import plan, trained
from gcl_custom.augmentations import handcrafted
from gcl_custom.collapse import effective_rank
from gcl_custom.console import say
from gcl_custom.devices import autocast, pick_device
from gcl_custom.features import feature_network
from gcl_custom.imagery import TileStore, spread
from gcl_custom.label_free import DELTA, FITTED, lidar, likeness, spectrum_slope
from gcl_custom.randomness import Randomness
from gcl_custom.runs import Run
from gcl_custom.supervised import INFERENCE_BATCH, infer
from gcl_custom.views import ViewStore


def run(run: Run) -> None:
    """Measure the backbone of each seed, and the views where the recipe mixes them in; the figures are facts.

    Raises:
        UserError: a pretraining or the views are not there, or stale output.
    """
    if plan.mixes_views(run.recipe.pretrain):
        _measure_views(run)
    for seed in run.recipe.compare.seeds:
        _measure_backbone(run, seed)


def _measure_backbone(run: Run, seed: int) -> None:
    stage = plan.measures(run, seed)
    if stage.done:
        say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    store = TileStore(plan.tiles(run).path)
    tiles = store.watched(plan.MEASURED_TILES)
    network, _ = trained.network_of(run, plan.pretrain(run, "gcl", seed), store.bands)
    whole = infer(network, store, tiles, run.recipe.hardware)
    views = represent_views(run, store, network, tiles)
    figures = {"rankme": effective_rank(whole), "lidar": lidar(views), "alpha": spectrum_slope(whole)}
    split = "valid" if len(store.index("valid")) else "train"
    how = {"tiles": len(tiles), "split": split, "views": views.shape[1], "delta": DELTA, "fitted_ranks": FITTED}
    stage.finish(**figures, **how)
    say(f"{stage.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def represent_views(run: Run, store: TileStore, network: nn.Module, tiles: Int[Tensor, " n"]) -> Float[Tensor, "n q d"]:
    """Representations of ``plan.MEASURED_VIEWS`` handcrafted views of each tile, in evaluation mode."""
    settings, device = run.recipe.pretrain, pick_device(run.recipe.hardware)
    size = settings.crop_size or store.size
    network.eval().to(device)
    found = []
    with torch.inference_mode():
        for some in torch.split(tiles, INFERENCE_BATCH):
            unit = store.unit(store.read(some).to(device))
            for number in range(plan.MEASURED_VIEWS):
                rng = Randomness(run.recipe.seed, "measures", number, some)
                views = handcrafted(unit, settings.handcrafted, number % 2, size, store.rgb, rng)
                with autocast(run.recipe.hardware, device):
                    found.append(network(views.contiguous(memory_format=torch.channels_last)).float())
    parts = [torch.stack(found[i : i + plan.MEASURED_VIEWS]) for i in range(0, len(found), plan.MEASURED_VIEWS)]
    return rearrange(torch.cat(parts, dim=1), "q n d -> n q d")


def _measure_views(run: Run) -> None:
    """Of training tiles, as these are the ones that have views; by a network that neither has seen."""
    stage = plan.likeness(run)
    if stage.done:
        return
    stage.begin()
    store, views = TileStore(plan.tiles(run).path), ViewStore(plan.views(run).path)
    network = feature_network(run.recipe.generator.features).to(pick_device(run.recipe.hardware))
    index = spread(store.index("train"), plan.MEASURED_TILES)
    pooled: list[tuple[Tensor, Tensor]] = []
    for some in torch.split(index, INFERENCE_BATCH):
        both = store.read(some), views.read(some, torch.zeros_like(some))
        tile, view = (network.pooled(store.unit(raw.to(network.mean.device))) for raw in both)
        pooled.append((tile, view))
    figure = likeness(*(torch.cat(side) for side in zip(*pooled, strict=True)))
    stage.finish(likeness=figure, tiles=len(index), feature_network=network.name)
    say(f"views with mask probability {run.recipe.views.mask_probability:g}: cosine similarity to tiles {figure:.3f}")
