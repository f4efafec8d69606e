"""The whole recipe: its sections, and the rules that hold between them.

Defaults stand once, with their unit and bounds. ``recipe.file`` reads files by this grammar. Nothing heavy is imported.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gcl_custom.recipe.evaluation import CompareSettings, CostBenefitSettings
from gcl_custom.recipe.generator import GeneratorSettings, TokenGeneratorSettings
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.imagery import DataSettings
from gcl_custom.recipe.names import LONGEST, NAME
from gcl_custom.recipe.pretraining import PretrainSettings, TokenTargetsSettings
from gcl_custom.recipe.section import Section, Seed
from gcl_custom.recipe.views import OutpaintingSettings, ViewsSettings


class Recipe(Section):
    """Everything that a run needs to know."""

    name: Annotated[str, Field(pattern=NAME, max_length=LONGEST)]
    """Name of the run, and of its folder below runs/. In a file it may be left out: the name is then the file's."""
    seed: Seed = 0
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
    def inpaints(self) -> bool:
        """Whether views are tiles with tokens in-painted."""
        return self.generator.has_tokens and not self.edits_latent

    @property
    def edits_latent(self) -> bool:
        """Whether views come from an edit of the generator's latent, and not from the generator's own augmentation."""
        return self.views.strategy is not None and not self.views.strategy.hides_tokens

    @property
    def generator_stages(self) -> list[str]:
        """The stages that make the generator ready for its views, in the order of their work."""
        strategy = self.views.strategy
        edit = ["edit"] if strategy and strategy.training_steps else []
        return [*self.generator.stages(strategy), *edit]

    @property
    def token_symmetry(self) -> Literal["none", "flip", "dihedral"]:
        """In which ways tiles are tokenised: upright alone where no transformer is trained on the tokens."""
        return self.data.symmetry if self.inpaints and self.tokens.maskgit.epochs else "none"

    @property
    def random_masks(self) -> bool:
        """Whether tokens are hidden at random."""
        return "mask_probability" not in self.generator.unread(self.views.strategy)

    @property
    def augmentation(self) -> str:
        """What makes the views, in a few words."""
        generator, strategy = self.generator.name, self.views.strategy
        return f"{generator}, {strategy.name}" if strategy else generator

    @model_validator(mode="after")
    def _grid(self) -> "Recipe":
        if self.generator.has_tokens:
            square = self.tokens.tokenizer.pixels_per_token
            if self.data.size % square:
                raise ValueError(
                    f"data.size {self.data.size} must be a multiple of generator.tokenizer.pixels_per_token {square}"
                )
            if self.data.size // square < 2:
                raise ValueError("a tile must have at least 2 by 2 tokens: raise data.size or lower pixels_per_token")
        return self

    @model_validator(mode="after")
    def _fsdp(self) -> "Recipe":
        trained = "maskgit" in self.generator_stages and self.tokens.maskgit.epochs
        if self.hardware.strategy == "fsdp" and not trained:
            raise ValueError(
                "hardware.strategy fsdp shares out a MaskGIT that is trained, and this recipe trains none: take ddp"
            )
        return self

    @model_validator(mode="after")
    def _strategy(self) -> "Recipe":
        strategy = self.views.strategy
        if strategy and (refusal := self.generator.refusal(strategy)):
            raise ValueError(refusal)
        if isinstance(strategy, OutpaintingSettings):
            least, shrunk = 2 * self.tokens.tokenizer.pixels_per_token - 1, round(self.data.size * strategy.share)
            if shrunk < least:
                raise ValueError(
                    f"views.strategy.share {strategy.share:g} shrinks a tile to {shrunk} px, which may cover no token "
                    f"wholly: raise it so that {least} px are left"
                )
        for key in self.generator.unread(strategy):
            if getattr(self.views, key) != ViewsSettings.model_fields[key].default:
                raise ValueError(f"views.{key} does nothing with this generator and strategy: leave it out")
        return self

    @model_validator(mode="after")
    def _reconstructions(self) -> "Recipe":
        asked = "reconstructed" in self.compare.arms or "reconstructed" in (self.pretrain.anchor, self.pretrain.source)
        if asked and not self.generator.reconstructs:
            raise ValueError(
                f"the generator {self.generator.name} does not reconstruct a tile: leave reconstructed out of "
                f"compare.arms, pretrain.anchor and pretrain.source"
            )
        return self

    @model_validator(mode="after")
    def _token_targets(self) -> "Recipe":
        if isinstance(self.pretrain.targets, TokenTargetsSettings) and not self.generator.has_tokens:
            raise ValueError(
                f"pretrain.targets.name tokens: the generator {self.generator.name} has no tokens. Take words, or a "
                f"generator of tokens"
            )
        return self

    @model_validator(mode="after")
    def _small_crops(self) -> "Recipe":
        small, view = self.pretrain.small_crops, self.pretrain.crop_size or self.data.size
        if small.count and small.size > view:
            raise ValueError(
                f"pretrain.small_crops.size {small.size} is more than the {view} px of a large view: lower it, such as "
                f"to {max(16, view // 16 * 8)}"
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
        if wanted > 1 and self.pretrain.tiles_per_step % self.hardware.processes:
            raise ValueError(
                f"pretrain.batch {self.pretrain.batch} with pretrain.generative_views {wanted} gives "
                f"{self.pretrain.tiles_per_step} tiles a step, which {self.hardware.processes} processes "
                f"(hardware.devices times hardware.nodes) cannot share evenly: choose another batch"
            )
        if self.pretrain.tiles_per_step < self.hardware.processes:
            raise ValueError(
                f"pretrain.batch {self.pretrain.batch} has no tile for each of {self.hardware.processes} processes "
                f"(hardware.devices times hardware.nodes): raise it"
            )
        return self
