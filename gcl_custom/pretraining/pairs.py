"""The pairs of views that pretraining compares: what is read, and the order in which views are taken.

b  tiles in a batch     c  bands     h w  pixels of a tile     k  generative views per tile
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Int, Real
from torch import Tensor

from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.targets import TargetStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.runs import plan
from gcl_custom.runs.run import Run
from gcl_custom.views.view_store import ViewStore


class Reader:
    """Reads what pairs are made of: source -> stored values (b k c h w), for the sources in use alone.

    With targets there is one entry more, ``targets`` (b t). ``quicklook`` says how pictures show the tiles.
    """

    def __init__(self, run: Run, settings: PretrainSettings) -> None:
        sources = {settings.anchor} | ({settings.source} if settings.mixing_rate > 0 else set())
        self._tiles = TileStore(plan.tiles(run).path) if "raw" in sources else None
        folders = {"reconstructed": plan.reconstructions(run).path, "inpainted": plan.views(run).path}
        self._views = {source: ViewStore(path) for source, path in folders.items() if source in sources}
        self._least = run.recipe.views.least_similarity
        self.quicklook = run.recipe.data.quicklook
        self.targets = TargetStore(plan.targets(run).path) if settings.predicted else None

    def __call__(self, tiles: Int[Tensor, " b"]) -> dict[str, Tensor]:
        read: dict[str, Tensor] = {source: _every_view(store, tiles) for source, store in self._views.items()}
        if self._tiles is not None:
            read["raw"] = self._tiles.read(tiles)[:, None]
        if self.targets is not None:
            read["targets"] = self.targets.read(tiles)
        return read

    def usable(self, tiles: Int[Tensor, " b"], k: int) -> Bool[Tensor, "b k"]:
        """Which of a tile's k generative views kept their content. Only in-painted ones can lose it."""
        if self._least is None or "inpainted" not in self._views:
            return torch.ones(len(tiles), k, dtype=torch.bool)
        return self._views["inpainted"].similar(tiles, self._least)


def _every_view(store: ViewStore, tiles: Int[Tensor, " b"]) -> Real[Tensor, "b k c h w"]:
    """All views of each tile. A step draws which one it takes; usually there is one."""
    which = torch.arange(store.per_tile).repeat(len(tiles))
    views = store.read(tiles.repeat_interleave(store.per_tile), which)
    return rearrange(views, "(b k) c h w -> b k c h w", k=store.per_tile)


def order_of_views(k: int, rng: Randomness) -> Int[Tensor, "b k"]:
    """The numbers of each tile's k generative views, in a random order."""
    first = (rng.uniform("which") * k).long()[:, None]
    return rng.uniform("which next", k).scatter(1, first, -1.0).argsort(dim=1)


def apart(rng: Randomness, place: int) -> Randomness:
    """Draws for another place in the step, independent of those of all others."""
    return replace(rng, stage=f"{rng.stage}, view {place}")
