"""The whole grammar of a recipe, as strict models, with that of generators and of pretraining in files of their own.

Defaults stand once, with their unit and bounds. ``recipe_file`` reads files by it. Nothing heavy is imported.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gcl_custom.recipe_generator import (
    MASKS,
    OF_INPAINTING,
    Generator,
    IcGan,
    Outpainting,
    PublicMaskGIT,
    TokenGenerator,
    Views,
)
from gcl_custom.recipe_pretrain import Pretrain
from gcl_custom.recipe_section import Count, Positive, Section, Share

# ---------------------------------------------------------------- imagery


class SyntheticScenes(Section):
    """Imagery made on the spot, for a first run without any download. It is synthetic, and every page says so."""

    tiles: Annotated[int, Field(ge=20)] = 1200
    """Number of GeoTIFF scenes to draw, one tile each, spread evenly over the classes."""
    pixels: Annotated[int, Field(ge=16)] = 64
    """Side of a scene, in pixels."""
    near_infrared: bool = False
    """Four bands of uint16 (reflectance times 10,000) in place of red, green and blue of uint8."""
    seed: int = 0


class Split(Section):
    """How tiles are divided where the folders do not already say so."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 0
    """Of the random split; kept apart from the run's seed so that seeds share one test split."""

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError(f"train + valid + test must be 1, not {self.train + self.valid + self.test:g}")
        return self


class Data(Section):
    """Where the imagery lies and how it becomes tiles."""

    root: str
    """Folder of images, relative to the current folder: flat, class folders, or split folders."""
    card: str | None = None
    """Name of a card in datasets/, or the path of one of your own; without it the layout is recognised."""
    labels: str | None = None
    """CSV file below the root with a row a file: columns file, labels (names separated by ;) and, if wanted, split.
    Without it, folders say the classes."""
    multi_label: bool = False
    """Score several labels a tile, by mAP, even where the CSV file happens to give each file one; where it gives some
    file several, this is so anyway."""
    size: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = 128
    """Side of a tile in pixels; larger files are resized, the shorter side first, then cropped in the centre."""
    upscale: bool = False
    """Enlarge files smaller than the size, instead of listing them as unusable."""
    bad_files: Share = 0.05
    """Share of unusable files above which the run stops before training."""
    nodata: Share = 0.5
    """Share of nodata pixels above which a file is unusable."""
    symmetry: Literal["none", "flip", "dihedral"] = "dihedral"
    """What leaves the meaning of a tile unchanged: nothing, left-right flips, or all flips and right-angle turns."""
    split: Split = Split()
    synthetic: SyntheticScenes | None = None
    """Draw this imagery into an empty root before anything else."""

    @model_validator(mode="after")
    def _label_file(self) -> "Data":
        if self.multi_label and self.labels is None:
            raise ValueError("multi_label needs labels, a CSV file: folders give each tile one label")
        return self


class Card(Section):
    """A data set, described: source, licence and layout. Never imagery."""

    name: str
    title: str
    source: str
    licence: str
    bands: list[str]
    splits: dict[Literal["train", "valid", "test"], str] | None = None
    """Folder of each given split below the root; without it the tiles are split by the recipe's shares."""
    classes: list[str] | Literal["folders"] | None = None
    """Class folders, in label order; ``folders``: all that there are, by name. Without it the tiles are unlabelled."""
    notes: str = ""
    """What a reader of results should know, such as a difference of place between the classes."""


# ---------------------------------------------------------------- comparison

Arm = Literal["gcl", "handcrafted", "reconstructed", "paired", "supervised"]


class Compare(Section):
    """The verdict: probes, fine-tuning, the supervised baseline, over several seeds."""

    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    arms: list[Arm] = ["gcl", "handcrafted", "reconstructed", "paired", "supervised"]
    """gcl: as the recipe says. handcrafted: mixing rate 0. reconstructed: views without in-painting (p = 0).
    paired: the raw tile with the pairing of generative views. supervised: from scratch."""
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = [0.01, 0.1]
    """Label fractions for fine-tuning (none: probes alone); the supervised baseline is trained at these and at all.
    1.0: fine-tune on all labels, too, for as many epochs as the supervised baseline."""
    neighbours: Count = 20
    """k of the kNN accuracy."""
    penalties: Annotated[list[Positive], Field(min_length=1)] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    """L2 penalties of the linear probe to choose from on the validation tiles."""
    learning_rates: Annotated[list[Positive], Field(min_length=1)] = [3e-4, 1e-3]
    """Learning rates (AdamW) of fine-tuning and of the supervised baseline to choose from on the validation tiles."""
    finetune_steps: Count = 1000
    """Training steps of fine-tuning, and of the supervised baseline at the same label fraction; not for all labels."""
    supervised_epochs: Count | None = None
    """Epochs on all labels, of the supervised baseline and of fine-tuning; without it, those of pretraining."""
    batch: Annotated[int, Field(ge=2)] = 64

    @model_validator(mode="after")
    def _gcl_first(self) -> "Compare":
        if "gcl" not in self.arms:
            raise ValueError("arms must contain gcl: the others are compared with it")
        if len(set(self.arms)) != len(self.arms) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("arms and seeds must not repeat")
        if len(set(self.fractions)) != len(self.fractions):
            raise ValueError("fractions must not repeat")
        return self


class CostBenefit(Section):
    """What the table of augmentations measures beside the rest."""

    fid_weights: str | None = None
    """Path of FID's Inception network (torch-fidelity's weights-inception-2015-12-05-6726825d.pth) on this machine;
    without it, FID is left out. Of tiles with three bands alone."""


class Hardware(Section):
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it, fp32 elsewhere; diffusion on a GPU in fp16, as it is published."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Count = 1
    """Processes or GPUs on this machine; more than one trains with DDP."""
    checkpoint_minutes: Positive = 1.0
    """Longest time between two checkpoints; each evaluation writes one too."""


class Recipe(Section):
    """Everything that a run needs to know."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    """Of the generator and the views; the contrastive seeds are compare.seeds."""
    data: Data
    generator: Generator = TokenGenerator()
    views: Views = Views()
    pretrain: Pretrain = Pretrain()
    compare: Compare = Compare()
    cost_benefit: CostBenefit = CostBenefit()
    hardware: Hardware = Hardware()

    @property
    def tokens(self) -> TokenGenerator:
        """The generator, where it is one of tokens; callers have made sure of that."""
        assert isinstance(self.generator, TokenGenerator)
        return self.generator

    @property
    def has_tokens(self) -> bool:
        """Whether the generator is one of tokens; others are taken as they are."""
        return isinstance(self.generator, TokenGenerator)

    @property
    def inpaints(self) -> bool:
        """Whether views are tiles with tokens in-painted."""
        strategy = self.views.strategy
        return self.has_tokens and (strategy is None or strategy.name in MASKS)

    @property
    def inverts(self) -> bool:
        """Whether a tile's latent is found by descent, which takes so long that it is done once and kept."""
        return isinstance(self.generator, IcGan) and self.generator.inversion_steps > 0

    @property
    def token_symmetry(self) -> Literal["none", "flip", "dihedral"]:
        """In which ways tiles are tokenised: upright alone where no transformer is trained on the tokens."""
        return self.data.symmetry if self.inpaints and self.tokens.maskgit.epochs else "none"

    @property
    def random_masks(self) -> bool:
        """Whether tokens are hidden at random."""
        return self.inpaints and (self.views.strategy is None or self.views.strategy.name == "random")

    @property
    def augmentation(self) -> str:
        """What makes the views, in a few words."""
        generator, strategy = self.generator.name, self.views.strategy
        return f"{generator}, {strategy.name}" if strategy else generator

    @property
    def reconstructs(self) -> bool:
        """Whether what the generator encodes and decodes is the tile again, up to its losses."""
        return self.inverts or self.generator.name not in ("icgan", "unclip")

    @model_validator(mode="after")
    def _grid(self) -> "Recipe":
        if self.has_tokens:
            square = self.tokens.tokenizer.pixels_per_token
            if self.data.size % square:
                raise ValueError(
                    f"data.size {self.data.size} must be a multiple of generator.tokenizer.pixels_per_token {square}"
                )
            if self.data.size // square < 2:
                raise ValueError("a tile must have at least 2 by 2 tokens: raise data.size or lower pixels_per_token")
        return self

    @model_validator(mode="after")
    def _strategy(self) -> "Recipe":
        generator, strategy = self.generator.name, self.views.strategy
        masks = strategy is not None and strategy.name in MASKS
        if strategy is not None and masks and generator != "tokens":
            raise ValueError(f"views.strategy {strategy.name} hides tokens, and the generator {generator} has none")
        if strategy is not None and not masks and generator == "unclip":
            raise ValueError(f"views.strategy {strategy.name} edits a latent, and the generator unclip has none")
        if strategy is not None and strategy.name == "interpolation" and generator == "icgan" and not self.inverts:
            raise ValueError(
                "interpolation of icgan goes from one tile's noise to another's: set inversion_steps above 0"
            )
        if isinstance(strategy, Outpainting):
            least, shrunk = 2 * self.tokens.tokenizer.pixels_per_token - 1, round(self.data.size * strategy.share)
            if shrunk < least:
                raise ValueError(
                    f"views.strategy.share {strategy.share:g} shrinks a tile to {shrunk} px, which may cover no token "
                    f"wholly: raise it so that {least} px are left"
                )
        unread = [] if self.inpaints else [*OF_INPAINTING]
        if strategy is not None and strategy.name in ("centre", "outpainting"):
            unread = ["mask_probability"]
        if self.inpaints and isinstance(self.tokens.maskgit, PublicMaskGIT):
            unread.append("refresh")
        for key in unread:
            if getattr(self.views, key) != Views.model_fields[key].default:
                raise ValueError(f"views.{key} does nothing with this generator and strategy: leave it out")
        return self

    @model_validator(mode="after")
    def _reconstructions(self) -> "Recipe":
        asked = "reconstructed" in self.compare.arms or "reconstructed" in (self.pretrain.anchor, self.pretrain.source)
        if asked and not self.reconstructs:
            raise ValueError(
                f"the generator {self.generator.name} does not reconstruct a tile: leave reconstructed out of "
                f"compare.arms, pretrain.anchor and pretrain.source"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        wanted = self.pretrain.generative_views
        if self.pretrain.source == "inpainted" and self.views.per_tile < wanted:
            raise ValueError(
                f"pretrain.generative_views {wanted} needs as many views of a tile, but views.per_tile is "
                f"{self.views.per_tile}: raise it to {wanted}, or lower pretrain.generative_views"
            )
        if wanted > 1 and self.pretrain.tiles_per_step % self.hardware.devices:
            raise ValueError(
                f"pretrain.batch {self.pretrain.batch} with pretrain.generative_views {wanted} gives "
                f"{self.pretrain.tiles_per_step} tiles a step, which hardware.devices {self.hardware.devices} cannot "
                f"share evenly: choose another batch"
            )
        return self
