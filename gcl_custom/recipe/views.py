"""The grammar of the section ``views``: what is augmented, and how."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag, model_validator

from gcl_custom.recipe.section import Batch, Count, CountOrZero, Positive, Section, Share, named

OF_INPAINTING = (
    "mask_probability", "decoding_steps", "order", "temperature", "sampling_temperature", "refresh", "pixels", "fill",
)  # fmt: skip
"""Keys of ``views`` that only in-painting reads."""

# ---------------------------------------------------------------- strategies


class StrategySection(Section):
    """What every strategy states of itself, so that no other module asks which one it is."""

    name: str
    hides_tokens: ClassVar[bool] = False
    """Whether it hides tokens, which are in-painted; otherwise it edits a continuous latent."""
    moves_tiles: ClassVar[bool] = False
    """Whether each view moves the tile before it is encoded, so that views cannot share what was encoded."""
    joins_tiles: ClassVar[bool] = False
    """Whether it goes from the latent of one tile to that of another."""
    unread: ClassVar[tuple[str, ...]] = OF_INPAINTING
    """Keys of ``views`` that it does not read."""

    @property
    def training_steps(self) -> int:
        """Steps of training the edit; 0 where nothing is learned."""
        return 0


class RandomMaskSettings(StrategySection):
    """Each token is hidden independently with views.mask_probability."""

    hides_tokens = True
    unread = ()

    name: Literal["random"] = "random"


class CentreSettings(StrategySection):
    """All tokens but the outer ring are hidden."""

    hides_tokens = True
    unread = ("mask_probability",)

    name: Literal["centre"]


class OutpaintingSettings(StrategySection):
    """The tile is shrunk and laid at one of nine places, drawn for each view; all around it is in-painted."""

    hides_tokens = True
    moves_tiles = True
    unread = ("mask_probability",)

    name: Literal["outpainting"]
    share: Annotated[float, Field(gt=0, lt=1)] = 196 / 256
    """Side of the shrunk tile, as a share of the canvas."""
    unlaid: Share = 0.0
    """Probability that the tile is not laid for a view: it keeps its size, nothing is hidden, and the view is its plain
    reconstruction."""


class LatentNoiseSettings(StrategySection):
    """Gaussian noise is added to the latent."""

    name: Literal["noise"]
    strength: Share = 0.5
    """Its standard deviation, in that of the latents; the latent keeps its spread, and nothing of itself at 1."""


class InterpolationSettings(StrategySection):
    """The latent moves towards that of another training tile."""

    joins_tiles = True

    name: Literal["interpolation"]
    strength: Share = 0.3
    """0 is the tile, 1 the other one."""


class SteeringSettings(StrategySection):
    """A learned linear edit of the latent that mimics an edit of the image (arXiv:1907.07171)."""

    name: Literal["steering"]
    edit: Literal["zoom", "shift", "brightness"] = "zoom"
    """The edit of the image to mimic."""
    strength: Share = 1.0
    """Largest size of the edit, drawn evenly to either side."""
    steps: Count = 500
    """Of training the edit."""

    @property
    def training_steps(self) -> int:
        return self.steps


class NavigatorSettings(StrategySection):
    """A learned step in the latent space that makes the contrastive task hard (COP-Gen, NeurIPS 2022)."""

    name: Literal["navigator"]
    strength: Annotated[float, Field(gt=0)] = 0.5
    """Length of the step, in standard deviations of the latents."""
    steps: Count = 500
    """Of training the navigator."""

    @property
    def training_steps(self) -> int:
        return self.steps


StrategySettings = Annotated[
    Annotated[RandomMaskSettings, Tag("random")]
    | Annotated[CentreSettings, Tag("centre")]
    | Annotated[OutpaintingSettings, Tag("outpainting")]
    | Annotated[LatentNoiseSettings, Tag("noise")]
    | Annotated[InterpolationSettings, Tag("interpolation")]
    | Annotated[SteeringSettings, Tag("steering")]
    | Annotated[NavigatorSettings, Tag("navigator")],
    named("random"),
]

# ---------------------------------------------------------------- the section


Fill = Literal["generated", "reconstruction", "other", "noise", "mean"]


class ViewsSettings(Section):
    """Generative views: made once per tile and kept."""

    per_tile: Annotated[int, Field(ge=1, le=8)] = 1
    """Generative views of each training tile."""
    strategy: StrategySettings | None = None
    """What is augmented, and how. Without it, the generator's own way: random masks for tokens, fresh noise for icgan
    and unclip, noise and denoising for diffusion."""
    mask_probability: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of tokens hidden, each independently."""
    decoding_steps: Annotated[int, Field(ge=1, le=64)] = 12
    """Steps in which the hidden tokens are filled in. Fewer take less time and fit the rest of a tile less well."""
    order: Literal["confidence", "halton"] = "confidence"
    """Which tokens are kept after a decoding step: the most confident, or the next of the Halton sequence."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the Gumbel noise on the confidence; falls linearly to 0 over the steps. 0 is greedy in the order."""
    sampling_temperature: Positive = 1.0
    """Of the distribution that tokens are drawn from."""
    pixels: Literal["own", "decoded"] = "own"
    """What a view made of tokens shows where none changed. own: the pixels of the tile, with edges feathered, so that
    a tokenizer's blur takes nothing from the rest. decoded: the whole view is decoded, as published."""
    fill: Fill = "generated"
    """What the hidden squares show. generated: tokens that the transformer fills in. Its controls, with the tile's own
    pixels around them: the tile's own reconstruction, another training tile, noise, or the mean of each band."""
    refresh: CountOrZero = 0
    """Every so many steps the cached keys and values of all tokens are computed again, and all hidden ones are
    predicted; in other steps, twice as many as are kept. 0: in the first step alone, which is fastest; 1 is exact. Of
    the own maskgit; public ones keep none and are exact."""
    batch: Batch = 64
    """Tiles whose views are made together."""
    least_similarity: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Cosine similarity between the pooled features of tile and view (by the generator's feature network)
    below which pretraining puts a handcrafted view in its place; -1 leaves none out, but measures. A threshold may be
    changed without making the views again; none measures nothing."""

    @model_validator(mode="after")
    def _fills(self) -> "ViewsSettings":
        if self.fill != "generated" and self.pixels == "decoded":
            raise ValueError(f"fill {self.fill} keeps the tile's pixels around the hidden squares: leave pixels out")
        if self.fill != "generated" and isinstance(self.strategy, OutpaintingSettings):
            raise ValueError(
                f"fill {self.fill} is a control of in-painting, not of out-painting: leave one of both out"
            )
        return self
