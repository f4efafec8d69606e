"""What the section of every family of generators states of itself."""

from collections.abc import Iterator
from typing import ClassVar

from gcl_custom.recipe.section import NamedWeights, Section
from gcl_custom.recipe.views import OF_INPAINTING, StrategySection, ViewsSettings


class GeneratorSection(Section):
    """What every family of generators states of itself, so that no other module asks which family it is.

    A strategy of ``None`` is the family's own augmentation.
    """

    name: str
    trained: ClassVar[bool] = False
    """Whether stages train it. What it makes depends on those stages, otherwise on this section."""
    has_tokens: ClassVar[bool] = False
    """Whether it encodes a tile to tokens, which a strategy can hide."""
    has_latent: ClassVar[bool] = True
    """Whether it encodes a tile to a continuous latent, which a strategy can edit."""
    features_key: ClassVar[str] = "features"
    """Key of the network whose features compare views with tiles."""
    latent_numbers: ClassVar[int] = 0
    """How many numbers are kept of each tile that is inverted, about."""
    of_augmentation: ClassVar[tuple[str, ...]] = ()
    """Keys that do not change what a tile is inverted to."""

    @property
    def reconstructs(self) -> bool:
        """Whether what is encoded and decoded is the tile again, up to losses."""
        return True

    @property
    def descent_steps(self) -> int:
        """Steps of the descent that finds a tile's latent; 0 where there is none."""
        return 0

    @property
    def inverts(self) -> bool:
        """Whether a tile's latent is found by descent. That takes so long that it is done once and kept."""
        return self.descent_steps > 0

    @property
    def encoded_after(self) -> tuple[str, ...]:
        """The stages that must be done before it encodes and decodes tiles."""
        return ()

    @property
    def reconstructed_after(self) -> tuple[str, ...]:
        """The stages that must be done before tiles are reconstructed."""
        return self.encoded_after

    def stages(self, strategy: StrategySection | None) -> tuple[str, ...]:
        """All stages that make it ready for its views, in the order of their work."""
        return self.encoded_after

    def named_weights(self, strategy: StrategySection | None) -> Iterator[NamedWeights]:
        """The weights that it takes from elsewhere, beside those of its feature network."""
        yield from ()

    def refusal(self, strategy: StrategySection) -> str | None:
        """Why a strategy does not go with it; None where it does."""
        if strategy.hides_tokens and not self.has_tokens:
            return f"views.strategy {strategy.name} hides tokens, and the generator {self.name} has none"
        if not strategy.hides_tokens and not self.has_latent:
            return f"views.strategy {strategy.name} edits a latent, and the generator {self.name} has none"
        return None

    def unread(self, strategy: StrategySection | None) -> tuple[str, ...]:
        """Keys of ``views`` that do nothing with it and the strategy."""
        return strategy.unread if strategy else OF_INPAINTING

    def published_as(self, views: ViewsSettings, size: int) -> str | None:
        """The augmentation whose published time holds for these settings, as the catalogue of weights calls it."""
        return None
