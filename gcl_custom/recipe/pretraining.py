"""The grammar of the section ``pretrain``: optimizers, and the views that are compared."""

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator, model_validator

from gcl_custom.recipe.methods import MethodSettings, VICRegSettings
from gcl_custom.recipe.section import Count, Positive, Section, Share, named

# ---------------------------------------------------------------- optimizers


class LarsSettings(Section):
    name: Literal["lars"] = "lars"
    learning_rate: Positive = 0.2
    """For a batch of 256; scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class AdamWSettings(Section):
    name: Literal["adamw"]
    learning_rate: Positive = 1e-3
    """For a batch of 256; scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


OptimizerSettings = Annotated[
    Annotated[LarsSettings, Tag("lars")] | Annotated[AdamWSettings, Tag("adamw")], named("lars")
]


# ---------------------------------------------------------------- views

Step = Literal["crop", "flip", "vertical_flip", "turn", "jitter", "grey", "blur", "solarise"]


class HandcraftedSettings(Section):
    """The suite of the VICReg paper (arXiv:2105.04906, appendix C.1); band-wise steps where bands are not RGB."""

    crop: tuple[Share, Share] = (0.08, 1.0)
    """Smallest and largest share of the area that a random resized crop keeps."""
    flip: Share = 0.5
    vertical_flip: Share = 0.0
    turn: Share = 0.0
    """Probability of a turn by a random multiple of 90 degrees."""
    jitter: Share = 0.8
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grey: Share = 0.2
    blur: tuple[Share, Share] = (1.0, 0.1)
    """Probability for the first and for the second view."""
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    solarise: tuple[Share, Share] = (0.0, 0.2)
    """Probability for the first and for the second view."""

    @field_validator("crop", "blur", "blur_sigma", "solarise", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _crop(self) -> "HandcraftedSettings":
        if not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError(f"crop must rise from above 0, not {list(self.crop)}")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError(f"blur_sigma must rise, not {list(self.blur_sigma)}")
        return self


class SmallCropsSettings(Section):
    """Multi-crop (arXiv:2006.09882): further small views of each tile, cut from the anchor, for the student alone."""

    count: Annotated[int, Field(ge=0, le=16)] = 0
    size: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    """Side in pixels."""
    area: tuple[Share, Share] = (0.05, 0.4)
    """Smallest and largest share of the tile's area."""
    blur: Share = 0.5
    """Probability of a blur."""

    @field_validator("area", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


# ---------------------------------------------------------------- the section


class PretrainSettings(Section):
    backbone: str = "resnet50"
    """Any timm name."""
    stem: Literal["standard", "small"] = "standard"
    """small removes the first max-pooling of a ResNet, for tiles of 64 px and less."""
    method: MethodSettings = VICRegSettings()
    optimizer: OptimizerSettings = LarsSettings()
    epochs: Count = 100
    warmup: Share = 0.1
    """Share of the run over which the learning rate grows from 0; then it falls by a cosine."""
    batch: Annotated[int, Field(ge=2)] = 256
    """Tiles in a step; with more generative views fewer, so that as many views pass the backbone."""
    crop_size: Annotated[int, Field(ge=16, multiple_of=8)] | None = None
    """Side of a view in pixels; without it, the size of a tile."""
    mixing_rate: Share = 0.75
    """Probability that the second view of a pair is a generative view."""
    generative_views: Annotated[int, Field(ge=1, le=3)] = 1
    """Second views of each tile in one step, k, each of another generative view and each paired with the same first
    view; the loss is the mean over the pairs. A step has batch x 2 / (1 + k) tiles, rounded down."""
    anchor: Literal["raw", "reconstructed"] = "raw"
    """What the handcrafted views are cut from: the tile, or the tile as the tokenizer reconstructs it."""
    source: Literal["inpainted", "reconstructed", "raw"] = "inpainted"
    """What stands in for a generative view: the in-painted tile, or, as controls, the reconstructed or the raw one."""
    pairing: list[Step] = ["crop", "flip"]
    """The handcrafted augmentations that follow a generative one, each with the probability that it has there."""
    handcrafted: HandcraftedSettings = HandcraftedSettings()
    small_crops: SmallCropsSettings = SmallCropsSettings()
    probe_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between online kNN accuracies on the validation tiles, where labels exist; 0 never."""

    @property
    def tiles_per_step(self) -> int:
        """Tiles in a step, over all processes; 1 + generative_views views of each pass the backbone."""
        return max(2, 2 * self.batch // (1 + self.generative_views))

    @model_validator(mode="after")
    def _small_crops(self) -> "PretrainSettings":
        if self.small_crops.count and self.method.name not in ("dino", "swav"):
            raise ValueError(f"small_crops are for dino and swav, not for {self.method.name}: set their count to 0")
        return self
