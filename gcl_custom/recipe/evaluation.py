"""The grammar of the sections ``compare`` and ``cost_benefit``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gcl_custom.recipe.section import LARGEST_BATCH, Count, LearningRate, Positive, Section, Seed

# ---------------------------------------------------------------- comparison

Arm = Literal["gcl", "handcrafted", "reconstructed", "paired", "supervised"]
FEW_NEIGHBOURS = 5
"""k of a second kNN score, beside the one of ``compare.neighbours``."""


class CompareSettings(Section):
    """The comparison of arms over several seeds: probes, fine-tuning, and the supervised baseline."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2]
    """Seeds of pretraining and of the supervised baseline; intervals are taken over them."""
    arms: list[Arm] = ["gcl", "handcrafted", "reconstructed", "paired", "supervised"]
    """Pretrainings to compare, and the supervised baseline. gcl: as the recipe says. handcrafted: mixing rate 0.
    reconstructed: views without in-painting (p = 0). paired: the raw tile with the pairing of generative views.
    supervised: on labels, from the weights that pretraining begins with."""
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = [0.01, 0.1]
    """Label fractions for fine-tuning (none: probes alone); the supervised baseline is trained at these and at all.
    1.0: fine-tune on all labels, too, for as many epochs as the supervised baseline."""
    neighbours: Count = 20
    """k of the kNN accuracy."""
    penalties: Annotated[list[Positive], Field(min_length=1)] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    """L2 penalties of the linear probe to choose from on the validation tiles."""
    learning_rates: Annotated[list[LearningRate], Field(min_length=1)] = [3e-4, 1e-3]
    """Learning rates (AdamW) of fine-tuning and of the supervised baseline to choose from on the validation tiles."""
    finetune_steps: Count = 1000
    """Training steps of fine-tuning, and of the supervised baseline at the same label fraction; not for all labels."""
    supervised_epochs: Count | None = None
    """Epochs on all labels, of the supervised baseline and of fine-tuning; without it, those of pretraining."""
    batch: Annotated[int, Field(ge=2, le=LARGEST_BATCH)] = 64
    """Tiles in a step of fine-tuning and of the supervised baseline."""

    @model_validator(mode="after")
    def _gcl_first(self) -> "CompareSettings":
        if "gcl" not in self.arms:
            raise ValueError("arms must contain gcl: the others are compared with it")
        if len(set(self.arms)) != len(self.arms) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("arms and seeds must not repeat")
        if len(set(self.fractions)) != len(self.fractions):
            raise ValueError("fractions must not repeat")
        return self


class CostBenefitSettings(Section):
    """What the table of augmentations measures beside the rest."""

    fid_weights: str | None = None
    """Path of FID's Inception network (torch-fidelity's weights-inception-2015-12-05-6726825d.pth) on this machine;
    without it, FID is left out. Of tiles with three bands alone."""
