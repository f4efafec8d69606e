"""Training a whole network with labels: fine-tuning a pretrained backbone, and the supervised baseline.

Both use one procedure. The loss is that of the kind of label. AdamW has torch's weight decay of 0.01 and a learning
rate that rises over the first tenth of the steps and then falls by a cosine. Views are as large as in pretraining, with
the geometry of the handcrafted suite (crop, flips, turns). Only the initial weights differ, so they cause any
difference of scores.

The weights with the best validation score are kept, the latest of equal ones. Training ends early where half of all its
steps brought no better score. A smaller share of them would end it while the learning rate is still high, before the
gain that its fall brings, and so leave a baseline that is too easy to beat.
"""

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.evaluation.inference import labelled, predict
from gcl_custom.evaluation.segmentation import maps
from gcl_custom.evaluation.segmentation.aligned import moved_together
from gcl_custom.evaluation.segmentation.decoder import Decoder
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.evaluation import PATIENCE
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.schedules import warmup_cosine
from gcl_custom.training import optimizers
from gcl_custom.training.batches import Batch
from gcl_custom.training.steps import Trainable
from gcl_custom.views.handcrafted import paired

GEOMETRY = ("crop", "flip", "vertical_flip", "turn")
WARMUP = 0.1


class Classifier(Trainable):
    """A backbone with a linear head, or with a decoder where each pixel has a class, trained on labelled tiles.

    Args:
        backbone: unit tiles (b c h w) -> representations (b width).
        store: where the labels are, and how stored tiles become unit floats.
        settings: the pretraining whose geometry and size of views are used.
        steps: length of the learning-rate schedule.
    """

    says_epochs = False

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        store: TileStore,
        settings: PretrainSettings,
        hardware: HardwareSettings,
        learning_rate: float,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.backbone: nn.Module = maps.of_decoder(backbone, store) if store.kind.dense else backbone
        self.head: nn.Module = (
            Decoder(self.backbone.channels, len(store.classes))
            if isinstance(self.backbone, maps.Maps)
            else nn.Linear(width, len(store.classes))
        )
        self.kept = copy.deepcopy(self.trained).requires_grad_(False)
        self.best, self.best_step = -1.0, 0
        """The best validation score so far, and the step after which it was first reached."""
        self._scored_step = 0
        self._store, self._settings, self._hardware = store, settings, hardware
        self._learning_rate, self._steps, self._seed = learning_rate, steps, seed
        self._valid, self._step = labelled(store, "valid"), 0

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes *_"]:
        """Logits of tiles or views, or of their pixels. They are first resized to the side of the training views.

        A network trained on views of 32 px sees every object at twice the size in a tile of 64 px. On EuroSAT with 1 %
        of the labels, its accuracy then fell to chance.
        """
        size = tiles.shape[-2:]
        side = self._settings.crop_size or self._store.size
        if tiles.shape[-1] != side:
            tiles = F.interpolate(tiles, size=(side, side), mode="bilinear", antialias=True)
        logits: Tensor = self.head(self.backbone(tiles.contiguous(memory_format=torch.channels_last)))
        return F.interpolate(logits, size=size, mode="bilinear") if self._store.kind.dense else logits

    def training_step(self, batch: Batch) -> Tensor:
        store, settings = self._store, self._settings
        # Drawn on the CPU, so that the choice of tiles never waits for the device.
        rng = Randomness(self._seed, "supervised", batch.step, batch.tiles.cpu())
        move = partial(
            paired, steps=GEOMETRY, settings=settings.handcrafted, size=settings.crop_size or store.size, rgb=store.rgb,
            rng=rng,
        )  # fmt: skip
        tiles, targets = store.unit(batch.data), store.targets(batch.tiles)
        if store.kind.dense:
            views, targets = moved_together(tiles, targets.to(tiles.device), len(store.classes), move)
        else:
            views = move(tiles)
        logits = self(views)
        loss = store.kind.loss(logits.float(), targets.to(logits.device))
        self.record({"loss": loss})
        self._step = batch.step + 1
        return loss

    def make_optimizer(self) -> torch.optim.Optimizer:
        groups = optimizers.without_decay(self.trained, optimizers.exempt_in_timm(self.trained))
        return torch.optim.AdamW(groups, self._learning_rate, fused=True)

    def schedule(self, step: int) -> float:
        return warmup_cosine(step, self._steps, WARMUP)

    @property
    def trained(self) -> nn.ModuleList:
        """The parts that are trained."""
        return nn.ModuleList([self.backbone, self.head])

    @property
    def ended(self) -> bool:
        """Whether so many steps brought no better score that training ends early."""
        return self._scored_step - self.best_step >= PATIENCE * self._steps

    def get_extra_state(self) -> dict[str, float]:
        """What ``state_dict`` holds beside the weights."""
        return {"best": self.best, "best_step": self.best_step, "scored_step": self._scored_step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.best, self.best_step, self._scored_step = (state[key] for key in ("best", "best_step", "scored_step"))

    def evaluate(self) -> dict[str, float]:
        """Score the validation tiles, and keep the weights if no score was better."""
        kind, predictions = self._store.kind, predict(self, self._store, self._valid, self._hardware)
        score = kind.score(predictions, self._store.labels[self._valid])
        self._scored_step = self._step
        if score > self.best:
            self.best_step = self._step
        if score >= self.best:
            self.best = score
            self.kept.load_state_dict(self.trained.state_dict())
        return {self.figure: score}

    @property
    def figure(self) -> str:
        """The name of the validation score in the history."""
        return f"valid {self._store.kind.figure}"

    def take_best(self) -> None:
        """Go back to the weights that were kept."""
        self.trained.load_state_dict(self.kept.state_dict())
