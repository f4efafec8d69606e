"""The backbone of a run: which pretraining is meant, its network, and the tiles that it takes."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_args

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from gcl_custom import __version__
from gcl_custom.errors import UserError
from gcl_custom.evaluation.inference import infer_batch
from gcl_custom.imagery.tile_store import TileStore
from gcl_custom.pretraining.backbones import within
from gcl_custom.pretraining.description import Description
from gcl_custom.pretraining.trained_backbone import network_of
from gcl_custom.recipe.evaluation import WITH_LABELS, Arm
from gcl_custom.recipe.file import card_of
from gcl_custom.recipe.imagery import Card
from gcl_custom.runs import arms, plan
from gcl_custom.runs.run import Run
from gcl_custom.runs.stage import Stage
from gcl_custom.weights.starts import Normalisation, normalisation

SAMPLE = 4
"""Number of tiles on which an exported network is compared."""


@dataclass(frozen=True)
class TrainedBackbone:
    """A finished pretraining of a run.

    Attributes:
        network: unit tiles (b c h w) -> representations (b width), in evaluation mode.
        width: length of a representation.
        store: the run's tiles. They define which stored values become 0 and 1.
    """

    run: Run
    arm: Arm
    seed: int
    network: nn.Module
    width: int
    store: TileStore

    @cached_property
    def description(self) -> Description:
        """What the network is and what it takes, as its file says it."""
        return Description.of(self.run.recipe, self.store, self.network, self.width)

    @property
    def architecture(self) -> str:
        """Its name in timm, without a tag."""
        return self.description.network

    @property
    def small_stem(self) -> bool:
        """Whether the max-pooling of timm's network was removed."""
        return self.description.stem == "small"

    @property
    def model_args(self) -> dict[str, Any]:
        """Arguments of timm.create_model besides the name and num_classes=0."""
        return dict(self.description.model_args)

    def plain(self) -> nn.Module:
        """A network of timm's own classes with these weights, on the CPU, in evaluation mode.

        The normalisation that they have seen, if any, is a module before it.
        """
        return self.description.built(within(self.network).state_dict(), self.run.path.name)

    @property
    def normalisation(self) -> Normalisation | None:
        """What the network takes off each band and divides it by; None where it sees unit tiles."""
        return normalisation(self.run.recipe.pretrain, self.store.bands)

    @cached_property
    def card(self) -> Card | None:
        """The card of the data set, if the recipe names one."""
        return card_of(self.run.recipe.data)

    @property
    def bands(self) -> str:
        """The names of the bands, or their number."""
        return ", ".join(self.description.band_names or [f"{self.store.bands}, unnamed"])

    @property
    def _of_file(self) -> str:
        """Which bands of a file these are, if it has others."""
        form = self.store.form
        numbers = ", ".join(map(str, form.numbers))
        return f", which are bands {numbers} of the {form.of_file} in a file" if form.choice else ""

    @property
    def input(self) -> str:
        """The input that the network expects, in words."""
        store, seen, bands = self.store, self.normalisation, self.bands + self._of_file
        last = (
            f"From that the network takes off the mean {seen.mean} and divides by the deviation {seen.deviation}, as "
            f"its first weights were trained."
            if seen
            else "That is all: no mean is taken off and nothing is divided by a deviation, neither before the network "
            "nor inside it."
        )
        return (
            f"float32 of shape (batch, {store.bands}, {store.size}, {store.size}); bands: {bands}. A file becomes "
            f"a tile by resizing its shorter side to {store.size} px (bilinear, antialiased) and taking the centre. "
            f"Each band's {store.dtype} value v becomes (v - low) / (high - low), cut off to 0..1, with low = "
            f"{store.low.tolist()} and high = {store.high.tolist()}. {last} Values without data "
            f"(nodata, NaN, infinite) become 0."
        )

    def represent(self, raw: Real[Tensor, "b c h w"]) -> Float[np.ndarray, "b d"]:
        """Representations of tiles in the store's form, in fp32 whatever hardware.precision says."""
        hardware = self.run.recipe.hardware.model_copy(update={"precision": "fp32"})
        found: np.ndarray = infer_batch(self.network, self.store, raw, hardware).cpu().numpy()
        return found

    def tiles(self) -> Float[Tensor, "b c h w"]:
        """A few unit tiles of the run, spread evenly, on which networks are compared."""
        return self.store.unit(self.store.read(self.store.sample(torch.arange(len(self.store)), SAMPLE)))

    def about(self) -> dict[str, str]:
        """Facts for a reader of the weights, as texts."""
        seen = self.normalisation
        return {
            "made_by": f"gcl-custom {__version__}",
            "run": self.run.path.name,
            "arm": self.arm,
            "seed": str(self.seed),
            "architecture": self.architecture,
            "stem": self.run.recipe.pretrain.stem,
            "model_args": json.dumps(self.model_args),
            "num_features": str(self.width),
            "input": self.input,
            "low": json.dumps(self.store.low.tolist()),
            "high": json.dumps(self.store.high.tolist()),
            **{name: json.dumps(value) for name, value in (seen._asdict() if seen else {}).items()},
            "licence_of_data": self.card.licence if self.card else "not stated",
            **self.description.metadata(),
        }


def find_pretraining(run: Run, arm: str, seed: int | None) -> tuple[Arm, int, Stage]:
    """The pretraining that is meant. Without a seed, it is that of the first seed in compare.seeds.

    Raises:
        UserError: there is no such arm, or its pretraining is unfinished or was made from other settings.
    """
    known = [name for name in get_args(Arm) if name not in WITH_LABELS]
    if arm not in known:
        raise UserError(f"--arm {arm}: no backbone is pretrained so. There are: {', '.join(known)}")
    seed = run.recipe.compare.seeds[0] if seed is None else seed
    stage = plan.pretrain(run, cast(Arm, arm), seed)
    if stage.done:
        return cast(Arm, arm), seed, stage
    if (stage.path / "stage.json").is_file():
        state = "was made from other settings or inputs than the run now has"
    else:
        state = "is not finished"
    expected = arms.pretrainings(run.recipe)
    finished = [f"--arm {a} --seed {s}" for a, s in expected if plan.pretrain(run, a, s).done]
    if (arm, seed) not in expected:
        remedy = f"It is not in the recipe either: see compare.arms, compare.seeds ({run.recipe.compare.seeds})"
    elif (arm, seed) == expected[0]:
        remedy = f"Run: gcl-custom pretrain {run.options}"
    else:
        remedy = f"Run: {stage.remedy}"
    raise UserError(f"{stage.path} {state}. {remedy}. Finished here: {'; '.join(finished) or 'none'}")


def load_backbone(run: Run, arm: str, seed: int | None) -> TrainedBackbone:
    """The backbone that is meant, with its weights.

    Raises:
        UserError: the pretraining is not there, or its weights cannot be read or do not fit.
    """
    name, number, stage = find_pretraining(run, arm, seed)
    store = TileStore(plan.tiles(run).path)
    network, width = network_of(run, stage, store.bands)
    return TrainedBackbone(run, name, number, network.eval(), width, store)
