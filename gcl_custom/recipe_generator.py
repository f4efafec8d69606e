"""The grammar of the sections ``generator`` and ``views``: who makes generative views, and how."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from gcl_custom.recipe_section import Count, Positive, Section, Share, named

# ---------------------------------------------------------------- feature networks


class EfficientNetLite0(Section):
    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weight: Positive = 0.5
    """Beside L1: more lowers the feature distance of reconstructions and their PSNR."""


class Vgg16(Section):
    name: Literal["vgg16"]
    weights: str
    """Path of torchvision's vgg16 weights (a .pth state dict) on this machine."""
    weight: Positive = 0.5


class WithoutNetwork(Section):
    """Multi-scale SSIM and gradients: needs no pretrained network and takes any number of bands."""

    name: Literal["none"]
    weight: Positive = 0.03


Perceptual = Annotated[
    Annotated[EfficientNetLite0, Tag("efficientnet-lite0")]
    | Annotated[Vgg16, Tag("vgg16")]
    | Annotated[WithoutNetwork, Tag("none")],
    named("efficientnet-lite0"),
]

# ---------------------------------------------------------------- tokens: a tokenizer and a transformer


class TokenizerLosses(Section):
    """What any tokenizer is trained with."""

    batch: Count = 32
    learning_rate: Positive = 4e-4
    perceptual: Perceptual = EfficientNetLite0()
    adversary_channels: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    """Of the discriminator's first layer; each of the next two has twice as many."""
    adversary_start: Share = 0.5
    """Share of the run after which the discriminator joins; 1 trains without it."""
    adversary_warmup: Share = 0.1
    """Share of the run over which its weight then grows from 0."""
    adversary_weight: Annotated[float, Field(ge=0)] = 0.4
    """Of the adversarial loss, before the adaptive factor and the trust in the discriminator."""
    lecam: Annotated[float, Field(ge=0)] = 0.001
    """Weight of the LeCam regulariser of the discriminator."""


class Tokenizer(TokenizerLosses):
    """The VQGAN: encoder, quantizer, decoder and its losses."""

    name: Literal["vqgan"] = "vqgan"
    weights: str | None = None
    """vqgan.safetensors of another run with the same architecture, to go on from; none starts from nothing."""
    epochs: Annotated[int, Field(ge=0)] = 300
    """0 takes weights as they are."""
    codes: Annotated[int, Field(ge=2, le=65536)] = 1024
    code_width: Count = 32
    """Length of a code."""
    pixels_per_token: Literal[4, 8, 16] = 8
    """Side, in pixels, of the square that one token stands for."""
    channels: Annotated[int, Field(ge=16, multiple_of=16)] = 128
    """Width of the networks at the resolution of the tokens."""
    blocks: Count = 4
    """Residual blocks at each of two resolutions, the tokens' and twice that, in the encoder and in the decoder."""
    codebook: Literal["ema", "gradient"] = "ema"
    commitment: Positive = 0.25
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    revive_after: Count = 200
    """Training steps without use after which a code is moved to a live feature."""

    @model_validator(mode="after")
    def _something_to_take(self) -> "Tokenizer":
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs 0 takes weights as they are, but no weights are given")
        return self


class PublicTokenizer(TokenizerLosses):
    """A tokenizer that others trained; it sees red, green and blue."""

    name: Literal["llamagen", "mage"]
    weights: str
    """Its public file. ``gcl-custom weights`` says where to get it."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Of further training on the own tiles; 0 takes the weights as they are."""
    learning_rate: Positive = 1e-4
    pixels_per_token: ClassVar[int] = 16

    @property
    def codes(self) -> int:
        """Size of the public codebook."""
        return {"llamagen": 16384, "mage": 1024}[self.name]


class MaskGIT(Section):
    """The label-free transformer that predicts hidden tokens."""

    name: Literal["maskgit"] = "maskgit"
    weights: str | None = None
    """maskgit.safetensors of another run with the same architecture, to go on from; none starts from nothing."""
    epochs: Annotated[int, Field(ge=0)] = 3000
    """0 takes weights as they are."""
    batch: Count = 48
    learning_rate: Positive = 3e-4
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 512
    depth: Count = 12
    heads: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the weights that are used after training."""

    @model_validator(mode="after")
    def _fits(self) -> "MaskGIT":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.epochs == 0 and self.weights is None:
            raise ValueError("epochs 0 takes weights as they are, but no weights are given")
        return self


class PublicMaskGIT(Section):
    """A transformer over tokens that others trained, used without any label; its sizes are read from its file."""

    name: Literal["halton", "mage"]
    weights: str
    """Its public file. ``gcl-custom weights`` says where to get it."""
    heads: Count | None = None
    """Of attention, which no tensor tells; without it, those of the public model of this width."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Of further training on the own tiles; 0 takes the weights as they are."""
    batch: Count = 48
    learning_rate: Positive = 1e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the weights that are used after training."""


AnyTokenizer = Annotated[
    Annotated[Tokenizer, Tag("vqgan")]
    | Annotated[PublicTokenizer, Tag("llamagen")]
    | Annotated[PublicTokenizer, Tag("mage")],
    named("vqgan"),
]
AnyMaskGIT = Annotated[
    Annotated[MaskGIT, Tag("maskgit")]
    | Annotated[PublicMaskGIT, Tag("halton")]
    | Annotated[PublicMaskGIT, Tag("mage")],
    named("maskgit"),
]
TOKENIZER_OF = {"halton": "llamagen", "mage": "mage"}
"""The tokenizer on whose codes each public transformer was trained."""


class TokenGenerator(Section):
    """A tokenizer and a transformer: views are tiles with some tokens in-painted. Own networks, or public ones."""

    name: Literal["tokens"] = "tokens"
    tokenizer: AnyTokenizer = Tokenizer()
    maskgit: AnyMaskGIT = MaskGIT()

    @property
    def features(self) -> Perceptual:
        return self.tokenizer.perceptual

    @model_validator(mode="after")
    def _same_codes(self) -> "TokenGenerator":
        wanted = TOKENIZER_OF.get(self.maskgit.name)
        if wanted and self.tokenizer.name != wanted:
            raise ValueError(
                f"maskgit {self.maskgit.name} speaks the codes of the tokenizer {wanted}, not of "
                f"{self.tokenizer.name}: set generator.tokenizer.name to {wanted}"
            )
        return self


# ---------------------------------------------------------------- other generators


class IcGan(Section):
    """IC-GAN: the tile's SwAV features are kept, the noise is fresh. Its weights are CC-BY-NC 4.0."""

    name: Literal["icgan"]
    weights: str
    """G_ema_best0.pth of the public archive."""
    encoder: str
    """SwAV's ResNet-50, swav_800ep_pretrain.pth.tar."""
    truncation: Positive = 0.7
    """Half the largest magnitude of a number of the noise."""
    inversion_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of a search for the noise that shows the tile; 0 has none, and then only fresh noise is of use."""
    strength: Share = 1.0
    """From the noise that was found by inversion, 0, to a fresh one, 1."""
    features: Perceptual = EfficientNetLite0()
    """Network whose features compare views with tiles."""

    @model_validator(mode="after")
    def _start(self) -> "IcGan":
        if self.strength < 1 and not self.inversion_steps:
            raise ValueError("strength below 1 starts from the noise of the tile: set inversion_steps above 0")
        return self


class ImageToImage(Section):
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
    """A folder or hub id of BLIP, which captions every tile once; none leaves the prompt empty."""
    features: Perceptual = EfficientNetLite0()
    """Network whose features compare views with tiles."""

    @model_validator(mode="after")
    def _a_step(self) -> "ImageToImage":
        if self.strength > 0 and int(self.steps * self.strength) < 1:
            raise ValueError(
                f"steps {self.steps} times strength {self.strength:g} is less than one step: raise steps to "
                f"{-int(-1 // self.strength)} or more"
            )
        return self


class Unclip(Section):
    """Stable unCLIP: an image made anew from the CLIP embedding of the tile alone."""

    name: Literal["unclip"]
    model: str = "sd2-community/stable-diffusion-2-1-unclip"
    """A folder or hub id."""
    steps: Count = 10
    noise_level: Annotated[int, Field(ge=0, le=999)] = 0
    """Noise added to the embedding, in steps of the model's own schedule."""
    guidance: Annotated[float, Field(ge=0)] = 10.0
    """How far each step is drawn away from what is predicted without the embedding; 1 or less not at all, in half the
    time."""
    features: Perceptual = EfficientNetLite0()
    """Network whose features compare views with tiles."""


Generator = Annotated[
    Annotated[TokenGenerator, Tag("tokens")]
    | Annotated[IcGan, Tag("icgan")]
    | Annotated[ImageToImage, Tag("diffusion")]
    | Annotated[Unclip, Tag("unclip")],
    named("tokens"),
]

# ---------------------------------------------------------------- views


class RandomMask(Section):
    """Each token is hidden independently with views.mask_probability."""

    name: Literal["random"] = "random"


class Centre(Section):
    """All tokens but the outer ring are hidden."""

    name: Literal["centre"]


class Outpainting(Section):
    """The tile is shrunk and laid at one of nine places, drawn for each view; all around it is in-painted."""

    name: Literal["outpainting"]
    share: Annotated[float, Field(gt=0, lt=1)] = 196 / 256
    """Side of the shrunk tile, as a share of the canvas."""
    unlaid: Share = 0.0
    """Probability that the tile is not laid for a view: it keeps its size, nothing is hidden, and the view is its plain
    reconstruction."""


class LatentNoise(Section):
    """Gaussian noise is added to the latent."""

    name: Literal["noise"]
    strength: Annotated[float, Field(ge=0)] = 0.5
    """Its standard deviation, in that of the latents."""


class Interpolation(Section):
    """The latent moves towards that of another training tile."""

    name: Literal["interpolation"]
    strength: Share = 0.3
    """0 is the tile, 1 the other one."""


class Steering(Section):
    """A learned linear edit of the latent that mimics an edit of the image (arXiv:1907.07171)."""

    name: Literal["steering"]
    edit: Literal["zoom", "shift", "brightness"] = "zoom"
    strength: Share = 1.0
    """Largest size of the edit, drawn evenly to either side."""
    steps: Count = 500
    """Of training the edit."""


class Navigator(Section):
    """A learned step in the latent space that makes the contrastive task hard (COP-Gen, NeurIPS 2022)."""

    name: Literal["navigator"]
    strength: Annotated[float, Field(gt=0)] = 0.5
    """Length of the step, in standard deviations of the latents."""
    steps: Count = 500
    """Of training the navigator."""


MASKS = ("random", "centre", "outpainting")
"""Strategies that hide tokens; the others edit a continuous latent."""
LEARNT = ("steering", "navigator")

Strategy = Annotated[
    Annotated[RandomMask, Tag("random")]
    | Annotated[Centre, Tag("centre")]
    | Annotated[Outpainting, Tag("outpainting")]
    | Annotated[LatentNoise, Tag("noise")]
    | Annotated[Interpolation, Tag("interpolation")]
    | Annotated[Steering, Tag("steering")]
    | Annotated[Navigator, Tag("navigator")],
    named("random"),
]


class Views(Section):
    """Generative views: made once per tile and kept."""

    per_tile: Annotated[int, Field(ge=1, le=8)] = 1
    strategy: Strategy | None = None
    """What is augmented. Without it, the generator's own: random masks for tokens, fresh noise for icgan and unclip,
    noise and denoising for diffusion."""
    mask_probability: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of tokens hidden, each independently."""
    decoding_steps: Annotated[int, Field(ge=1, le=64)] = 12
    order: Literal["confidence", "halton"] = "confidence"
    """Which tokens are kept after a decoding step: the most confident, or the next of the Halton sequence."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the Gumbel noise on the confidence; falls linearly to 0 over the steps. 0 is greedy in the order."""
    sampling_temperature: Positive = 1.0
    """Of the distribution that tokens are drawn from."""
    refresh: Annotated[int, Field(ge=0)] = 2
    """Recompute the cached keys and values of all tokens every so many steps; 0 computes them once, which is fastest
    and a little less likely, 1 is exact. Of the own maskgit; public ones keep none and are exact."""
    batch: Count = 64
    least_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Cosine similarity between the pooled features of tile and view (by the generator's feature network)
    below which pretraining puts a handcrafted view in its place; -1 leaves none out, but measures. A threshold may be
    changed without making the views again; none measures nothing."""


OF_INPAINTING = ("mask_probability", "decoding_steps", "order", "temperature", "sampling_temperature", "refresh")
"""Keys of ``views`` that only in-painting reads."""
