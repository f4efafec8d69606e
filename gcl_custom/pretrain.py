"""Stage: contrastive pretraining on pairs of views; one module for every method.

    b  tiles in a batch     c  bands     h w  pixels of a tile     k  generative views per tile     s  side of a view

The first view of a pair is a handcrafted view of the anchor. So is the second, except that at the mixing rate it is a
generative view, followed by the pairing. Labels are read only for the online kNN accuracy, from which nothing is
chosen.
"""

from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, Integer
from torch import Tensor

from gcl_custom import backbones, collapse, console, optimizers, plan, recipe
from gcl_custom.augmentations import handcrafted, paired, small_crop
from gcl_custom.imagery import TileStore
from gcl_custom.methods import METHODS
from gcl_custom.probes import Labelled, accuracy, knn
from gcl_custom.randomness import Randomness, derive
from gcl_custom.runs import Run
from gcl_custom.trained import BACKBONE
from gcl_custom.training import Batch, Batches, Trainable, fit, grid, save_weights
from gcl_custom.views import ViewStore

WATCHED = 512
"""Validation tiles, at most, that signs of collapse and the online kNN accuracy are computed from."""
SHOWN = 8


class Reader:
    """Reads the tiles that pairs are made of: source -> stored values (b k c h w), only of the sources in use."""

    def __init__(self, run: Run, settings: recipe.Pretrain) -> None:
        sources = {settings.anchor} | ({settings.source} if settings.mixing_rate > 0 else set())
        self._tiles = TileStore(plan.tiles(run).path) if "raw" in sources else None
        folders = {"reconstructed": plan.reconstructions(run).path, "inpainted": plan.views(run).path}
        self._views = {source: ViewStore(path) for source, path in folders.items() if source in sources}

    def __call__(self, tiles: Int[Tensor, " b"]) -> dict[str, Integer[Tensor, "b _ c h w"]]:
        read: dict[str, Tensor] = {source: _every_view(store, tiles) for source, store in self._views.items()}
        if self._tiles is not None:
            read["raw"] = self._tiles.read(tiles)[:, None]
        return read


def _every_view(store: ViewStore, tiles: Int[Tensor, " b"]) -> Integer[Tensor, "b k c h w"]:
    """All of a tile's views: which one a step takes is drawn when the step is known, and usually there is one."""
    which = torch.arange(store.per_tile).repeat(len(tiles))
    views = store.read(tiles.repeat_interleave(store.per_tile), which)
    return rearrange(views, "(b k) c h w -> b k c h w", k=store.per_tile)


class Contrastive(Trainable):
    """A backbone and a contrastive method.

    Args:
        store: how stored values become unit floats, and the validation tiles.
        steps: training steps of the whole run, for the schedule.
        batch: tiles in a batch, over all processes.
        reader: of the training tiles that pictures show.
    """

    def __init__(
        self, store: TileStore, reader: Reader, settings: recipe.Pretrain, steps: int, batch: int, seed: int
    ) -> None:
        super().__init__()
        self.backbone, width = backbones.build(settings.backbone, store.bands, settings.stem)
        self.method = METHODS[settings.method.name](self.backbone, width, settings.method)
        self._share_done = 0.0
        self.evaluate_every = settings.probe_every or settings.epochs
        self._store, self._reader, self._settings, self._seed = store, reader, settings, seed
        self._steps, self._batch = steps, batch
        self._size = settings.crop_size or store.size

    def views(self, batch: Batch) -> tuple[Float[Tensor, "b c _s _s"], ...]:
        """The positive pair of each tile and its small crops, a function of the seed, the step and the tile."""
        settings, store = self._settings, self._store
        # Drawn on the CPU, so that choosing tiles never waits for the device.
        rng = Randomness(self._seed, "pretrain", batch.step, batch.tiles.cpu())
        anchors = store.unit(batch.data[settings.anchor][:, 0])
        first = self._handcrafted(anchors, 0, rng)
        second = torch.empty_like(first)
        mixed = rng.uniform("mixing") < settings.mixing_rate
        for chosen, generative in ((mixed.nonzero().squeeze(1), True), ((~mixed).nonzero().squeeze(1), False)):
            if len(chosen):
                own, there = replace(rng, tiles=rng.tiles[chosen]), chosen.to(second.device)
                if generative:
                    second[there] = self._generative(batch.data[settings.source][there], own)
                else:
                    second[there] = self._handcrafted(anchors[there], 1, own)
        small = [small_crop(anchors, settings, crop, store.rgb, rng) for crop in range(settings.small_crops.count)]
        return first, second, *small

    def _handcrafted(self, anchors: Float[Tensor, "b c h w"], view: int, rng: Randomness) -> Float[Tensor, "b c s s"]:
        return handcrafted(anchors, self._settings.handcrafted, view, self._size, self._store.rgb, rng)

    def _generative(self, raw: Integer[Tensor, "b k c h w"], rng: Randomness) -> Float[Tensor, "b c s s"]:
        settings, (b, k) = self._settings, raw.shape[:2]
        which = (rng.uniform("which") * k).long().to(raw.device)
        tiles = self._store.unit(raw[torch.arange(b, device=raw.device), which])
        return paired(tiles, settings.pairing, settings.handcrafted, self._size, self._store.rgb, rng)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Representations of unit tiles."""
        representations: Tensor = self.backbone(tiles.contiguous(memory_format=torch.channels_last))
        return representations

    def training_step(self, batch: Batch, _: int) -> Tensor:
        # One pass for each view: in one pass for both, batch normalisation would mix their statistics.
        views = self.views(batch)
        self._share_done = batch.step / self._steps
        terms = self.method([self(view) for view in views], views, self._share_done)
        loss = torch.stack(list(terms.values())).sum()
        self.record({"loss": loss, **terms})
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then let a teacher follow: here, and not in a later hook, so that no checkpoint comes between."""
        super().optimizer_step(*arguments, **options)
        self.method.follow(self.backbone, self._share_done)

    def configure_optimizers(self) -> Any:
        optimizer = optimizers.make(self._settings.optimizer, self, self._batch)
        schedule = optimizers.warmup_cosine(self._steps, self._settings.warmup)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def evaluate(self) -> dict[str, float]:
        """Signs of collapse, and where labels exist the kNN accuracy of one half of the watched tiles by the other."""
        watched = self._watched()
        tiles = self._store.unit(self._store.read(watched).to(self.device))
        kept = self.method.kept(self.backbone)
        parts = [kept(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(tiles, self._batch)]
        representations = torch.cat(parts).float()
        std, rank = collapse.embedding_std(representations), collapse.effective_rank(representations)
        if warning := collapse.warning(std, rank):
            console.warn(warning)
        figures = {"embedding_std": std, "effective_rank": rank}
        labels = self._store.labels[watched]
        known = representations.cpu()[labels >= 0], labels[labels >= 0]
        if self._settings.probe_every and len(known[1]) >= 2:
            (bank, queries), (bank_labels, query_labels) = ((x[::2], x[1::2]) for x in known)
            found = knn(Labelled(bank, bank_labels), queries, len(self._store.classes), neighbours=20)
            figures["knn"] = accuracy(found, query_labels)
        return figures

    def _watched(self) -> Int[Tensor, " n"]:
        """Spread evenly over the validation tiles, or the training tiles where there are none."""
        index = self._store.index("valid")
        index = index if len(index) else self._store.index("train")
        return index[torch.linspace(0, len(index) - 1, min(len(index), WATCHED)).round().long()]

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        """Positive pairs, the first view above the second."""
        tiles = self._store.index("train")[:SHOWN]
        data = {source: raw.to(self.device) for source, raw in self._reader(tiles).items()}
        return {"pairs": grid(self.views(Batch(self.global_step, tiles, data))[:2])}


def run(run: Run, arm: recipe.Arm, seed: int) -> None:
    """Pretrain the backbone of an arm of the comparison; gcl is the recipe as it stands.

    Writes ``backbone.safetensors``: the backbone alone, in the naming of timm.
    """
    stage = plan.pretrain(run, arm, seed)
    if stage.done:
        console.say(f"{stage.name}: done before, in {stage.path}")
        return
    stage.begin()
    settings = plan.arm_settings(run.recipe, arm)
    store, reader = TileStore(plan.tiles(run).path), Reader(run, settings)
    batches = Batches(store.index("train"), settings.batch, seed, reader)
    torch.manual_seed(derive(seed, "pretrain", "initial weights"))
    module = Contrastive(store, reader, settings, settings.epochs * batches.steps_per_epoch, batches.batch, seed)
    history = fit(module, batches, stage, run.recipe.hardware, settings.epochs, seed)
    save_weights(stage.path / BACKBONE, module.method.kept(module.backbone))
    last = {name: value for name, value in history[-1].items() if name != "epoch"}
    stage.finish(parameters=sum(weight.numel() for weight in module.backbone.parameters()), **last)
