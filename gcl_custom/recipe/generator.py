"""The grammar of the section ``generator``: who makes generative views."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from gcl_custom.recipe.family import GeneratorSection
from gcl_custom.recipe.features import EfficientNetLite0Settings, PerceptualSettings
from gcl_custom.recipe.section import (
    Batch,
    Count,
    CountOrZero,
    Depth,
    LearningRate,
    NamedWeights,
    Positive,
    Section,
    Share,
    Width,
    named,
)  # fmt: skip
from gcl_custom.recipe.views import StrategySection, ViewsSettings

# ---------------------------------------------------------------- tokens: a tokenizer and a transformer


class TokenizerLossesSettings(Section):
    """What any tokenizer is trained with."""

    batch: Batch = 32
    """Tiles in a training step."""
    learning_rate: LearningRate = 4e-4
    """Learning rate of AdamW at its highest, for the tokenizer and for the discriminator."""
    perceptual: PerceptualSettings = EfficientNetLite0Settings()
    """Network whose features compare reconstructions with tiles."""
    adversary_channels: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Of the discriminator's first layer; each of the next two has twice as many."""
    adversary_start: Share = 0.5
    """Share of the run after which the discriminator joins; 1 trains without it."""
    adversary_warmup: Share = 0.1
    """Share of the run over which its weight then grows from 0."""
    adversary_weight: Annotated[float, Field(ge=0)] = 0.4
    """Of the adversarial loss, before the adaptive factor and the trust in the discriminator."""
    lecam: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the LeCam regulariser of the discriminator."""


class TokenizerSettings(TokenizerLossesSettings):
    """The VQGAN: encoder, quantizer, decoder and its losses."""

    name: Literal["vqgan"] = "vqgan"
    weights: str | None = None
    """vqgan.safetensors of another run with the same architecture, to go on from; none starts from nothing."""
    epochs: CountOrZero = 300
    """Epochs of training; 0 takes weights as they are."""
    codes: Annotated[int, Field(ge=2, le=65536)] = 1024
    """Number of codes in the codebook."""
    code_width: Width = 32
    """Length of a code."""
    pixels_per_token: Literal[2, 4, 8, 16] = 8
    """Side, in pixels, of the square that one token stands for."""
    channels: Annotated[int, Field(ge=16, le=4096, multiple_of=16)] = 128
    """Width of the networks at the resolution of the tokens."""
    blocks: Depth = 4
    """Residual blocks at each of two resolutions, the tokens' and twice that, in the encoder and in the decoder."""
    codebook: Literal["ema", "gradient"] = "ema"
    """How codes are learned: as moving averages of the features that they stand for, or by gradient descent."""
    commitment: Positive = 0.25
    """Weight of the loss that draws features to their codes."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Decay of the moving averages of the codes."""
    revive_after: Count = 200
    """Training steps without use after which a code is moved to a live feature."""
    colours_only: ClassVar[bool] = False
    """Whether it sees red, green and blue alone."""

    @model_validator(mode="after")
    def _something_to_take(self) -> "TokenizerSettings":
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs 0 takes weights as they are, but no weights are given")
        return self


class PublicTokenizerSettings(TokenizerLossesSettings):
    """A tokenizer that others trained; it sees red, green and blue."""

    name: Literal["llamagen", "mage"]
    weights: str
    """Its public file. ``gcl-custom weights`` says where to get it."""
    epochs: CountOrZero = 0
    """Of further training on the own tiles; 0 takes the weights as they are."""
    learning_rate: LearningRate = 1e-4
    """Learning rate of AdamW at its highest, for the tokenizer and for the discriminator."""
    pixels_per_token: ClassVar[int] = 16
    colours_only: ClassVar[bool] = True

    @property
    def codes(self) -> int:
        """Size of the public codebook."""
        return CODES[self.name]


class MaskGITTrainingSettings(Section):
    """How long a transformer over tokens is trained."""

    patience: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Share of the epochs so far in which the held-out masked-token loss must fall by 0.01 nats. Where it does not, the
    learning rate falls to 0 over a last fifth of the training, which then ends, at the latest with the last epoch. 0
    trains for all epochs, along a cosine."""


class MaskGITSettings(MaskGITTrainingSettings):
    """The label-free transformer that predicts hidden tokens."""

    name: Literal["maskgit"] = "maskgit"
    weights: str | None = None
    """maskgit.safetensors of another run with the same architecture, to go on from; none starts from nothing."""
    epochs: CountOrZero = 3000
    """Most epochs of training, which `patience` may end earlier; 0 takes weights as they are."""
    batch: Batch = 48
    """Tiles in a training step."""
    learning_rate: LearningRate = 3e-4
    """Learning rate of AdamW at its highest."""
    width: Annotated[int, Field(ge=32, le=2**14, multiple_of=32)] = 512
    """Width of the transformer."""
    depth: Depth = 12
    """Number of its layers."""
    heads: Count = 8
    """Attention heads in each layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of activations dropped in training."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target spread over all codes."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the weights that are used after training."""
    unread: ClassVar[tuple[str, ...]] = ()
    """Keys of ``views`` that it does not read."""
    codes_of: ClassVar[str | None] = None
    """The tokenizer on whose codes it was trained; this one learns those of any."""
    published: ClassVar[bool] = False
    """Whether times of its views have been published."""

    @model_validator(mode="after")
    def _fits(self) -> "MaskGITSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs 0 takes weights as they are, but no weights are given")
        return self


class PublicMaskGITSettings(MaskGITTrainingSettings):
    """A transformer over tokens that others trained, used without any label; its sizes are read from its file."""

    name: Literal["halton", "mage"]
    weights: str
    """Its public file. ``gcl-custom weights`` says where to get it."""
    heads: Count | None = None
    """Of attention, which no tensor tells; without it, those of the public model of this width."""
    epochs: CountOrZero = 0
    """Most epochs of further training on the own tiles, which `patience` may end; 0 takes the weights as they are."""
    batch: Batch = 48
    """Tiles in a training step."""
    learning_rate: LearningRate = 1e-4
    """Learning rate of AdamW at its highest."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target spread over all codes."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the weights that are used after training."""
    unread: ClassVar[tuple[str, ...]] = ("refresh",)

    @property
    def codes_of(self) -> str:
        """The tokenizer on whose codes it was trained."""
        return TOKENIZER_OF[self.name]

    @property
    def published(self) -> bool:
        """Whether times of its views have been published."""
        return self.name == "halton"


AnyTokenizerSettings = Annotated[
    Annotated[TokenizerSettings, Tag("vqgan")]
    | Annotated[PublicTokenizerSettings, Tag("llamagen")]
    | Annotated[PublicTokenizerSettings, Tag("mage")],
    named("vqgan"),
]
AnyMaskGITSettings = Annotated[
    Annotated[MaskGITSettings, Tag("maskgit")]
    | Annotated[PublicMaskGITSettings, Tag("halton")]
    | Annotated[PublicMaskGITSettings, Tag("mage")],
    named("maskgit"),
]
CODES = {"llamagen": 16384, "mage": 1024}
"""Size of the codebook of each public tokenizer."""
TOKENIZER_OF = {"halton": "llamagen", "mage": "mage"}
"""The tokenizer on whose codes each public transformer was trained."""


class TokenGeneratorSettings(GeneratorSection):
    """A tokenizer and a transformer: views are tiles with some tokens in-painted. Own networks, or public ones."""

    name: Literal["tokens"] = "tokens"
    tokenizer: AnyTokenizerSettings = TokenizerSettings()
    """What turns tiles into tokens and back: an own VQGAN, or a public tokenizer."""
    maskgit: AnyMaskGITSettings = MaskGITSettings()
    """What predicts hidden tokens: an own MaskGIT, or a public one for the public tokenizer."""
    trained = True
    has_tokens = True
    features_key = "tokenizer.perceptual"

    @property
    def features(self) -> PerceptualSettings:
        return self.tokenizer.perceptual

    @property
    def encoded_after(self) -> tuple[str, ...]:
        return ("tokenizer",)

    @property
    def reconstructed_after(self) -> tuple[str, ...]:
        return ("tokens",)

    def stages(self, strategy: StrategySection | None) -> tuple[str, ...]:
        made = ("tokenizer", "tokens")
        return (*made, "maskgit") if _inpaints(strategy) else made

    def named_weights(self, strategy: StrategySection | None) -> Iterator[NamedWeights]:
        parts = (("tokenizer", self.tokenizer, True), ("maskgit", self.maskgit, _inpaints(strategy)))
        for part, settings, read in parts:
            if settings.weights is not None:
                yield NamedWeights(f"{part}.weights", settings.name, settings.weights, read=read)

    def unread(self, strategy: StrategySection | None) -> tuple[str, ...]:
        of_strategy = strategy.unread if strategy else ()
        return (*of_strategy, *self.maskgit.unread) if _inpaints(strategy) else of_strategy

    def published_as(self, views: ViewsSettings, size: int) -> str | None:
        measured = self.maskgit.published and size == 256 and views.decoding_steps == 12
        return views.strategy.name if measured and views.strategy else None

    @model_validator(mode="after")
    def _same_codes(self) -> "TokenGeneratorSettings":
        wanted = self.maskgit.codes_of
        if wanted and self.tokenizer.name != wanted:
            raise ValueError(
                f"maskgit {self.maskgit.name} speaks the codes of the tokenizer {wanted}, not of "
                f"{self.tokenizer.name}: set generator.tokenizer.name to {wanted}"
            )
        return self


def _inpaints(strategy: StrategySection | None) -> bool:
    return strategy is None or strategy.hides_tokens


# ---------------------------------------------------------------- other generators


class IcGanSettings(GeneratorSection):
    """IC-GAN: the tile's SwAV features are kept, the noise is fresh. Its weights are CC-BY-NC 4.0."""

    name: Literal["icgan"]
    weights: str
    """G_ema_best0.pth of the public archive."""
    encoder: str
    """SwAV's ResNet-50, swav_800ep_pretrain.pth.tar."""
    truncation: Positive = 0.7
    """Half the largest magnitude of a number of the noise."""
    inversion_steps: CountOrZero = 0
    """Steps of a search for the noise that shows the tile; 0 has none, and then only fresh noise is of use."""
    strength: Share = 1.0
    """From the noise that was found by inversion, 0, to a fresh one, 1."""
    features: PerceptualSettings = EfficientNetLite0Settings()
    """Network whose features compare views with tiles."""
    latent_numbers = 2048 + 128  # of the condition, and of the public network's noise
    of_augmentation = ("strength", "features")

    @property
    def descent_steps(self) -> int:
        return self.inversion_steps

    @property
    def reconstructs(self) -> bool:
        return self.inverts

    @property
    def encoded_after(self) -> tuple[str, ...]:
        return ("latents",) if self.inverts else ()

    def named_weights(self, strategy: StrategySection | None) -> Iterator[NamedWeights]:
        yield NamedWeights("weights", "icgan", self.weights)
        yield NamedWeights("encoder", "icgan encoder", self.encoder)

    def refusal(self, strategy: StrategySection) -> str | None:
        if strategy.joins_tiles and not self.inverts:
            return f"{strategy.name} of icgan goes from one tile's noise to another's: set inversion_steps above 0"
        return super().refusal(strategy)

    def published_as(self, views: ViewsSettings, size: int) -> str | None:
        return "icgan" if views.strategy is None and not self.inverts else None

    @model_validator(mode="after")
    def _start(self) -> "IcGanSettings":
        if self.strength < 1 and not self.inversion_steps:
            raise ValueError("strength below 1 starts from the noise of the tile: set inversion_steps above 0")
        return self


class ImageToImageSettings(GeneratorSection):
    """Diffusion: noise is added to the tile and taken off again, guided by its caption."""

    name: Literal["diffusion"]
    model: str = "stabilityai/sdxl-turbo"
    """A folder or hub id of any image-to-image model of diffusers. That of SDXL-Turbo may not be used commercially."""
    strength: Share = 0.2
    """Share of the noise that is added: 0 returns the tile, 1 keeps nothing of it."""
    steps: Count = 10
    """Of the whole schedule; strength times steps of them are taken, at least one."""
    guidance: Annotated[float, Field(ge=0)] = 0.0
    """Of the caption, beyond what the model was distilled with."""
    captions: str | None = "Salesforce/blip-image-captioning-base"
    """A folder or hub id of BLIP, which captions each training and validation tile once; none leaves the prompt
    empty."""
    features: PerceptualSettings = EfficientNetLite0Settings()
    """Network whose features compare views with tiles."""

    def stages(self, strategy: StrategySection | None) -> tuple[str, ...]:
        # An edit of latents reads no caption.
        return ("captions",) if self.captions and strategy is None else ()

    def named_weights(self, strategy: StrategySection | None) -> Iterator[NamedWeights]:
        yield NamedWeights("model", "diffusion", self.model, folder=True)
        if self.captions:
            yield NamedWeights("captions", "captions", self.captions, folder=True, makes_views=False)

    @model_validator(mode="after")
    def _a_step(self) -> "ImageToImageSettings":
        if self.strength > 0 and int(self.steps * self.strength) < 1:
            raise ValueError(
                f"steps {self.steps} times strength {self.strength:g} is less than one step: raise steps to "
                f"{-int(-1 // self.strength)} or more"
            )
        return self


class UnclipSettings(GeneratorSection):
    """Stable unCLIP: an image made anew from the CLIP embedding of the tile alone."""

    name: Literal["unclip"]
    model: str = "sd2-community/stable-diffusion-2-1-unclip"
    """A folder or hub id."""
    steps: Count = 10
    """Denoising steps."""
    noise_level: Annotated[int, Field(ge=0, le=999)] = 0
    """Noise added to the embedding, in steps of the model's own schedule."""
    guidance: Annotated[float, Field(ge=0)] = 10.0
    """How far each step is drawn away from what is predicted without the embedding; 1 or less not at all, in half the
    time."""
    features: PerceptualSettings = EfficientNetLite0Settings()
    """Network whose features compare views with tiles."""
    has_latent = False

    @property
    def reconstructs(self) -> bool:
        return False

    def named_weights(self, strategy: StrategySection | None) -> Iterator[NamedWeights]:
        yield NamedWeights("model", "unclip", self.model, folder=True)


GeneratorSettings = Annotated[
    Annotated[TokenGeneratorSettings, Tag("tokens")]
    | Annotated[IcGanSettings, Tag("icgan")]
    | Annotated[ImageToImageSettings, Tag("diffusion")]
    | Annotated[UnclipSettings, Tag("unclip")],
    named("tokens"),
]
