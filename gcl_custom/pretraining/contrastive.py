"""Stage: contrastive pretraining on pairs of views; one module for every method.

    b  tiles in a batch     c  bands     h w  pixels of a tile     k  generative views per tile     s  side of a view

The first view of a pair is a handcrafted view of the anchor. The second is, at the mixing rate, a generative view
followed by the pairing, and otherwise a handcrafted view. A generative view that lost its content
(views.least_similarity) is replaced by a handcrafted one. With pretrain.generative_views above 1 a tile has several
second views in a step, each paired with the first. Labels are read only for the online kNN accuracy; nothing is
chosen by it.

With k pairs, each starts from the same buffers; those of pair (step mod k) are kept. So in a step a centre moves once,
a queue takes up one pair and sees no view twice, and running statistics count once, as with a single pair. The loss and
its gradient are those of all pairs.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor
from torch.func import functional_call

from gcl_custom import console
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.measures import collapse
from gcl_custom.measures.label_free import lidar
from gcl_custom.measures.probes import Labelled, knn
from gcl_custom.methods.by_name import METHODS
from gcl_custom.pictures import grid
from gcl_custom.pretraining import layers, start
from gcl_custom.pretraining.folded_norms import fold_norms
from gcl_custom.pretraining.pairs import Reader, apart, order_of_views
from gcl_custom.pretraining.targets import Prediction
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.runs.arms import norms_of
from gcl_custom.schedules import warmup_cosine
from gcl_custom.training import optimizers
from gcl_custom.training.batch_norm import without_statistics
from gcl_custom.training.batches import Batch
from gcl_custom.training.steps import Trainable
from gcl_custom.views.handcrafted import handcrafted, paired, small_crop

WATCHED = 512
"""Most validation tiles for signs of collapse, LiDAR and the online kNN accuracy."""
LIDAR_VIEWS = 4
"""Handcrafted views of a tile for LiDAR; its paper (arXiv:2312.04000) takes 50."""
SHOWN = 8
ROUNDING = 1e-6
"""The score of the start is kept in fp32."""


class Contrastive(Trainable):
    """A backbone and a contrastive method. A backbone that begins with public weights is evaluated before any step.

    Args:
        store: how stored values become unit floats, and the validation tiles.
        reader: knows which views are usable, and reads the tiles that pictures show.
        steps: training steps of the whole run, for the schedule.
        batch: tiles in a batch, over all processes.
    """

    knn_of_start: Float[Tensor, ""]

    def __init__(
        self, store: TileStore, reader: Reader, settings: PretrainSettings, steps: int, batch: int, seed: int
    ) -> None:
        super().__init__()
        self.backbone, self.width = start.begun(settings, store)
        self._size = settings.crop_size or store.size
        start.fix_norms(self.backbone, norms_of(settings))
        if norms_of(settings) != "trained":
            fold_norms(self.backbone, store.bands, self._size)
        if settings.trained_layers:
            layers.train_last(self.backbone, settings.backbone, settings.trained_layers)
        self.method = METHODS[settings.method.name](self.backbone, self.width, settings.method)
        if (targets := settings.predicted) and reader.targets:
            self.prediction = Prediction(self.width, reader.targets.width, targets.weight)
        self._done, self._share_done = 0, 0.0
        self.evaluate_first = settings.continues
        if settings.continues:  # a buffer, so that it is in the checkpoint
            self.register_buffer("knn_of_start", torch.full((), torch.nan))
        self.evaluate_every = settings.probe_every or settings.epochs
        self._store, self._reader, self._settings, self._seed = store, reader, settings, seed
        self._steps, self._batch = steps, batch

    def views(self, batch: Batch) -> tuple[Float[Tensor, "b c _s _s"], ...]:
        """The first view of each tile, the views paired with it, and its small crops.

        They are a function of seed, step and tile.
        """
        settings, store = self._settings, self._store
        # Drawn on the CPU, so that choosing tiles never waits for the device.
        rng = Randomness(self._seed, "pretrain", batch.step, batch.tiles.cpu())
        anchors = store.unit(batch.data[settings.anchor][:, 0])
        first = self._handcrafted(anchors, 0, rng)
        places = range(1, 1 + settings.generative_views)
        if settings.mixing_rate > 0:
            stored = batch.data[settings.source]
            k = stored.shape[1]
            order, usable = order_of_views(k, rng), self._reader.usable(rng.tiles, k)
            others = [self._mixed(anchors, stored, order, usable, place, rng) for place in places]
        else:
            others = [self._handcrafted(anchors, place, rng) for place in places]
        small = [small_crop(anchors, settings, crop, store.rgb, rng) for crop in range(settings.small_crops.count)]
        return first, *others, *small

    def _mixed(
        self,
        anchors: Float[Tensor, "b c h w"],
        stored: Real[Tensor, "b k c h w"],
        order: Int[Tensor, "b k"],
        usable: Bool[Tensor, "b k"],
        place: int,
        rng: Randomness,
    ) -> Float[Tensor, "b c s s"]:
        """The views of one place in the step, each handcrafted or generative as drawn. The first view has place 0."""
        own = rng if place == 1 else apart(rng, place)
        which = order[:, (place - 1) % stored.shape[1]]
        kept = usable.gather(1, which[:, None]).squeeze(1)
        mixed = (own.uniform("mixing") < self._settings.mixing_rate) & kept
        views = torch.empty(len(anchors), anchors.shape[1], self._size, self._size, device=anchors.device)
        if len(chosen := mixed.nonzero().squeeze(1)):
            there = chosen.to(views.device)
            tiles = self._store.unit(stored[there, which[chosen].to(views.device)])
            views[there] = self._paired(tiles, replace(own, tiles=own.tiles[chosen]))
        if len(chosen := (~mixed).nonzero().squeeze(1)):
            there = chosen.to(views.device)
            views[there] = self._handcrafted(anchors[there], place, replace(rng, tiles=rng.tiles[chosen]))
        return views

    def _handcrafted(self, anchors: Float[Tensor, "b c h w"], place: int, rng: Randomness) -> Float[Tensor, "b c s s"]:
        own = rng if place < 2 else apart(rng, place)
        return handcrafted(anchors, self._settings.handcrafted, min(place, 1), self._size, self._store.rgb, own)

    def _paired(self, tiles: Float[Tensor, "b c h w"], rng: Randomness) -> Float[Tensor, "b c s s"]:
        settings = self._settings
        return paired(tiles, settings.pairing, settings.handcrafted, self._size, self._store.rgb, rng)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Representations of unit tiles."""
        representations: Tensor = self.backbone(tiles.contiguous(memory_format=torch.channels_last))
        return representations

    def training_step(self, batch: Batch) -> Tensor:
        # One pass for each view: in one pass for both, batch normalisation would mix their statistics.
        views = self.views(batch)
        self._done, self._share_done = batch.step + 1, batch.step / self._steps
        large = 1 + self._settings.generative_views
        with layers.at_rest(self.backbone) if self._share_done < self._settings.heads_first else nullcontext():
            seen = [self(view) for view in views[:large]]
            if small := views[large:]:
                with without_statistics(self.backbone):  # it is used on whole tiles, which small crops do not resemble
                    seen += [self(view) for view in small]
        terms = self._terms(seen, views, batch.step)
        if "targets" in batch.data:
            terms["targets"] = self.prediction(seen, batch.data["targets"])
        loss = torch.stack(list(terms.values())).sum()
        self.record({"loss": loss, **terms})
        return loss

    def _terms(self, seen: Sequence[Tensor], views: Sequence[Tensor], step: int) -> dict[str, Tensor]:
        """The method's terms, averaged over the pairs of the first view and each other large one."""
        pairs = self._settings.generative_views
        if pairs == 1:
            return self.method(seen, views, self._share_done)
        small = range(1 + pairs, len(views))
        found: list[dict[str, Tensor]] = []
        remembered = {name: buffer.clone() for name, buffer in self.method.named_buffers()}
        for pair in range(pairs):
            members = (0, 1 + pair, *small)
            arguments = [seen[i] for i in members], [views[i] for i in members], self._share_done
            if pair == step % pairs:
                found.append(self.method(*arguments))
            else:
                copies = {name: buffer.clone() for name, buffer in remembered.items()}
                found.append(functional_call(self.method, copies, arguments))
        return {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}

    def make_optimizer(self) -> torch.optim.Optimizer:
        settings = self._settings
        optimizer = optimizers.make(settings.optimizer, self, self._batch)
        if settings.layer_decay < 1:
            optimizers.slow(optimizer, layers.shares(self.backbone, settings.backbone, settings.layer_decay))
        return optimizer

    def schedule(self, step: int) -> float:
        return warmup_cosine(step, self._steps, self._settings.warmup)

    def follow(self) -> None:
        self.method.follow(self.backbone, self._share_done)

    def evaluate(self) -> dict[str, float]:
        """Signs of collapse, LiDAR, and with labels the kNN score of half of the watched tiles by the other half.

        What so few tiles cannot tell is left out. The score is accuracy, or mAP where a tile may have several labels.
        """
        watched = self._store.watched(WATCHED)
        tiles = self._store.unit(self._store.read(watched).to(self.device))
        representations = self._represent(tiles)
        figures = dict[str, float]()
        if len(watched) >= collapse.LEAST_TILES:
            std, rank = collapse.embedding_std(representations), collapse.effective_rank(representations)
            if warning := collapse.warning(std, rank):
                console.warn(warning)
            figures |= {"embedding_std": std, "effective_rank": rank}
        if len(watched) >= 2:
            figures["lidar"] = self._lidar(tiles, watched)
        if self._settings.probe_every and self._store.classes:
            has_label = self._store.has_label[watched]
            kind, labels = self._store.kind.of_whole_tiles(self._store.labels[watched][has_label])
            known = representations.cpu()[has_label], labels
            if len(known[1]) >= 2:
                (bank, queries), (bank_labels, query_labels) = ((x[::2], x[1::2]) for x in known)
                votes = knn(Labelled(bank, bank_labels, kind), queries, len(self._store.classes), neighbours=20)
                figures["knn"] = kind.score(kind.decide(votes), query_labels)
                self._compare_with_start(figures["knn"])
        return figures

    def _compare_with_start(self, score: float) -> None:
        """Keep the score of the first evaluation, that of the start, and warn where a later one falls below it."""
        if not self.evaluate_first:
            return
        if self.knn_of_start.isnan():
            self.knn_of_start.fill_(score)
        elif score < self.knn_of_start.item() - ROUNDING:
            before = 100 * self.knn_of_start.item()
            console.warn(
                f"kNN on validation tiles is {100 * score:.1f} %, below the {before:.1f} % of the weights that this "
                f"pretraining began with"
            )

    def _represent(self, tiles: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Representations of unit tiles by the backbone to be kept."""
        kept = self.method.kept(self.backbone)
        parts = [kept(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(tiles, self._batch)]
        return torch.cat(parts).float()

    def _lidar(self, tiles: Float[Tensor, "n c h w"], numbers: Int[Tensor, " n"]) -> float:
        """LiDAR of the same views at every epoch: half are drawn as first views of a pair, half as second ones."""
        found = []
        for some, part in zip(torch.split(tiles, self._batch), torch.split(numbers, self._batch), strict=True):
            views = [
                self._handcrafted(some, view % 2, Randomness(self._seed, "lidar", view, part))
                for view in range(LIDAR_VIEWS)
            ]
            found.append(torch.stack([self._represent(view) for view in views], dim=1))
        return lidar(torch.cat(found).cpu())  # in float64, which not every device has

    def pictures(self) -> dict[str, Float[Tensor, "3 h w"]]:
        """Positive pairs, the first view above the others."""
        tiles = self._store.index("train")[:SHOWN]
        data = {source: raw.to(self.device) for source, raw in self._reader(tiles).items()}
        rows = self.views(Batch(self._done, tiles, data))[: 1 + self._settings.generative_views]
        return {"pairs": grid(rows, self._store.quicklook(self._reader.quicklook))}
