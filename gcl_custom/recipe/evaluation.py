"""The grammar of the sections ``compare`` and ``cost_benefit``."""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from gcl_custom.recipe.section import LARGEST_BATCH, Count, LearningRate, Positive, Section, Seed

# ---------------------------------------------------------------- comparison

Arm = Literal["gcl", "handcrafted", "reconstructed", "paired", "supervised", "scratch"]
WITH_LABELS: tuple[Arm, ...] = ("supervised", "scratch")
"""Arms that are trained on labels and need no pretraining."""
FEW_NEIGHBOURS = 5
"""k of a second kNN score, beside the one of ``compare.neighbours``."""
PENALTY_OF_FEW = 1e-4
"""For each feature, of a probe with few labels."""


class PixelProbing(NamedTuple):
    """How the linear probe of pixels is fitted. Its scores depend on each of these."""

    pixels: int = 10_000
    """Pixels that a probe is fitted to, about."""
    least: int = 4
    """The fewest pixels of a tile: of more tiles, some are chosen, spread evenly."""
    valid: int = 200
    """The most validation tiles that choose the penalty."""
    on_the_way: float = 1e-4
    """Where fits that choose a penalty end, by the largest entry of their gradient."""
    at_the_end: float = 1e-5
    """Where fits that are scored end. Ten thousand pixels of wide maps would take minutes otherwise."""
    finer: int = 4
    """How many times as large a side the earlier map has as the last one, if there is such a map."""


PIXEL_PROBING = PixelProbing()
LEAST_SUPERVISED_STEPS = 1000
"""Least steps on all labels where a recipe does not say how many epochs: a network from scratch needs about so many,
however few tiles there are."""
EVALUATIONS = 12
"""Most times that a training scores the validation tiles: for its curve, to keep the best weights, and to end early."""
PATIENCE = 0.5
"""Share of all steps without a better validation score after which training ends."""


class CompareSettings(Section):
    """The comparison of arms over several seeds: probes, fine-tuning, and the supervised baseline."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2]
    """Seeds of pretraining and of the supervised baseline; intervals are taken over them."""
    arms: list[Arm] = ["gcl", "handcrafted", "reconstructed", "paired", "supervised", "scratch"]
    """Pretrainings to compare, and the supervised baseline. gcl: as the recipe says. handcrafted: mixing rate 0.
    reconstructed: views without in-painting (p = 0). paired: the raw tile with the pairing of generative views.
    supervised: on labels, from the weights that pretraining begins with. scratch: the same from random weights; left
    out beside supervised where pretraining begins with these anyway."""
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = [0.01, 0.1]
    """Label fractions for fine-tuning and for linear probes of the frozen backbones (none: no fine-tuning); the
    supervised baseline is trained at these and at all. 1.0: fine-tune on all labels, too, for as many epochs as the
    supervised baseline."""
    shots: list[Count] = [1, 5, 10]
    """Labels a class for further linear probes of the frozen backbones. Of tiles with one label each alone."""
    draws: Count = 10
    """How often the labels of a probe with a fraction, or with so many labels a class, are drawn; scores are means over
    the draws, which are the same for all arms."""
    neighbours: Count = 20
    """k of the kNN accuracy."""
    penalties: Annotated[list[Positive], Field(min_length=1)] = [
        1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4,
    ]  # fmt: skip
    """L2 penalties of the linear probe to choose from on the validation tiles; with the best it is fitted once more, to
    training and validation tiles. Of n tiles and three classes or more, scikit-learn's C is 1 / (n penalty); of two
    classes it is 2 / (n penalty)."""
    learning_rates: Annotated[list[LearningRate], Field(min_length=1)] = [3e-4, 1e-3]
    """Learning rates (AdamW) of fine-tuning and of the supervised baseline to choose from on the validation tiles."""
    finetune_steps: Count = 1000
    """Most training steps of fine-tuning, and of the supervised baseline at the same label fraction; not for all
    labels. A training ends early if half of its steps bring no better validation score; its best weights are kept."""
    supervised_epochs: Count | None = None
    """Most epochs on all labels, of the supervised baseline and of fine-tuning; without it, those of pretraining, but
    at least 1,000 steps. Too few leave a baseline that the verdict does not compare with."""
    batch: Annotated[int, Field(ge=2, le=LARGEST_BATCH)] = 64
    """Tiles in a step of fine-tuning and of the supervised baseline."""

    def epochs_on_all(self, pretraining: int, steps_per_epoch: int) -> int:
        """Most epochs on all labels.

        Args:
            pretraining: its epochs.
            steps_per_epoch: of a training with all labels.
        """
        return self.supervised_epochs or max(pretraining, math.ceil(LEAST_SUPERVISED_STEPS / steps_per_epoch))

    @model_validator(mode="after")
    def _gcl_first(self) -> "CompareSettings":
        if "gcl" not in self.arms:
            raise ValueError("arms must contain gcl: the others are compared with it")
        if len(set(self.arms)) != len(self.arms) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("arms and seeds must not repeat")
        if len(set(self.fractions)) != len(self.fractions) or len(set(self.shots)) != len(self.shots):
            raise ValueError("fractions and shots must not repeat")
        return self


class CostBenefitSettings(Section):
    """What the table of augmentations measures beside the rest."""

    fid_weights: str | None = None
    """Path of FID's Inception network (torch-fidelity's weights-inception-2015-12-05-6726825d.pth) on this machine;
    without it, FID is left out. Of tiles with three bands alone."""
