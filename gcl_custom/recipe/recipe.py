"""The whole recipe: its sections, and the rules that hold between them.

Defaults stand once, with their unit and bounds. ``recipe.file`` reads files by this grammar. Nothing heavy is imported.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gcl_custom.recipe.evaluation import CompareSettings, CostBenefitSettings
from gcl_custom.recipe.generator import GeneratorSettings, IcGanSettings, PublicMaskGITSettings, TokenGeneratorSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.pretraining import PretrainSettings
from gcl_custom.recipe.section import Section
from gcl_custom.recipe.views import MASKS, OF_INPAINTING, OutpaintingSettings, ViewsSettings


class Recipe(Section):
    """Everything that a run needs to know."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run, and of its folder below runs/. In a file it may be left out: the name is then the file's."""
    seed: int = 0
    """Seed of the generator and of the views. The seeds of pretraining are compare.seeds."""
    data: DataSettings
    generator: GeneratorSettings = TokenGeneratorSettings()
    """Which kind of generator makes the generative views."""
    views: ViewsSettings = ViewsSettings()
    pretrain: PretrainSettings = PretrainSettings()
    compare: CompareSettings = CompareSettings()
    cost_benefit: CostBenefitSettings = CostBenefitSettings()
    hardware: HardwareSettings = HardwareSettings()

    @property
    def tokens(self) -> TokenGeneratorSettings:
        """The generator, where it is one of tokens; callers have made sure of that."""
        assert isinstance(self.generator, TokenGeneratorSettings)
        return self.generator

    @property
    def has_tokens(self) -> bool:
        """Whether the generator is one of tokens; others are taken as they are."""
        return isinstance(self.generator, TokenGeneratorSettings)

    @property
    def inpaints(self) -> bool:
        """Whether views are tiles with tokens in-painted."""
        strategy = self.views.strategy
        return self.has_tokens and (strategy is None or strategy.name in MASKS)

    @property
    def inverts(self) -> bool:
        """Whether a tile's latent is found by descent, which takes so long that it is done once and kept."""
        return isinstance(self.generator, IcGanSettings) and self.generator.inversion_steps > 0

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
        if isinstance(strategy, OutpaintingSettings):
            least, shrunk = 2 * self.tokens.tokenizer.pixels_per_token - 1, round(self.data.size * strategy.share)
            if shrunk < least:
                raise ValueError(
                    f"views.strategy.share {strategy.share:g} shrinks a tile to {shrunk} px, which may cover no token "
                    f"wholly: raise it so that {least} px are left"
                )
        unread = [] if self.inpaints else [*OF_INPAINTING]
        if strategy is not None and strategy.name in ("centre", "outpainting"):
            unread = ["mask_probability"]
        if self.inpaints and isinstance(self.tokens.maskgit, PublicMaskGITSettings):
            unread.append("refresh")
        for key in unread:
            if getattr(self.views, key) != ViewsSettings.model_fields[key].default:
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
