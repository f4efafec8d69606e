"""The arms of a comparison: the pretrainings, and what each of them reads."""

from typing import Any

from gcl_custom.recipe.evaluation import WITH_LABELS, Arm
from gcl_custom.recipe.pretraining import Norms, PretrainSettings, TokenTargetsSettings
from gcl_custom.recipe.recipe import Recipe


def arm_settings(recipe: Recipe, arm: Arm) -> PretrainSettings:
    """The pretraining section of an arm."""
    change: dict[Arm, dict[str, Any]] = {
        "gcl": {},
        "handcrafted": {"mixing_rate": 0.0},
        "reconstructed": {"source": "reconstructed"},
        "paired": {"source": "raw"},
    }
    return recipe.pretrain.model_copy(update=change[arm])


def mixes_views(settings: PretrainSettings) -> bool:
    """Whether these settings show in-painted tiles at all."""
    return settings.mixing_rate > 0 and settings.source == "inpainted"


def reads_reconstructions(settings: PretrainSettings) -> bool:
    """Whether these settings show reconstructed tiles at all."""
    return "reconstructed" in (settings.anchor, settings.source if settings.mixing_rate > 0 else None)


def norms_of(settings: PretrainSettings) -> Norms:
    """What is trained of batch norms, also where the recipe does not say."""
    return settings.norms or ("frozen" if settings.continues else "trained")


OF_MIXING = ("source", "pairing")
"""Keys of ``pretrain`` that only apply to generative views."""


def normalised(settings: PretrainSettings) -> PretrainSettings:
    """The settings, with what holds for norms, and with defaults for keys that do nothing at mixing rate 0.

    So cells that say the same in other words share the pretraining.
    """
    change: dict[str, Any] = {"norms": norms_of(settings)}
    if settings.mixing_rate == 0:
        change |= {key: getattr(PretrainSettings(), key) for key in OF_MIXING}
    return settings.model_copy(update=change)


BEGINNINGS = ("untrained", "public")
"""Backbones that are probed beside the arms and are no pretraining of the run: as initialised, and the public start."""


def beginnings(recipe: Recipe) -> tuple[str, ...]:
    """What the pretraining of a recipe begins with; ``public`` only if it has a public start."""
    return BEGINNINGS if recipe.pretrain.continues else BEGINNINGS[:1]


def pretrainings(recipe: Recipe) -> list[tuple[Arm, int]]:
    """Every pretraining that a comparison needs, the recipe's own first."""
    return [(arm, seed) for arm in pretrained(recipe) for seed in recipe.compare.seeds]


def pretrained(recipe: Recipe) -> list[Arm]:
    """The arms that are pretrained."""
    return [arm for arm in recipe.compare.arms if arm not in WITH_LABELS]


def with_labels(recipe: Recipe) -> list[Arm]:
    """The arms that are trained on labels. Without a start, ``scratch`` would do what ``supervised`` does."""
    same = not recipe.pretrain.continues and "supervised" in recipe.compare.arms
    return [arm for arm in recipe.compare.arms if arm in WITH_LABELS and not (same and arm == "scratch")]


def _arms(recipe: Recipe) -> list[PretrainSettings]:
    return [arm_settings(recipe, arm) for arm in pretrained(recipe)]


def needs_views(recipe: Recipe) -> bool:
    """Whether some pretraining of the recipe shows generative views."""
    return any(mixes_views(arm) for arm in _arms(recipe))


def needs_reconstructions(recipe: Recipe) -> bool:
    return any(map(reads_reconstructions, _arms(recipe)))


def shows_generator(recipe: Recipe) -> bool:
    """Whether some pretraining of the recipe shows views or reconstructions by the generator."""
    return needs_views(recipe) or needs_reconstructions(recipe)


def _predicts_tokens(recipe: Recipe) -> bool:
    return isinstance(recipe.pretrain.targets, TokenTargetsSettings) and bool(pretrained(recipe))


def needs_generator(recipe: Recipe) -> bool:
    """Whether some pretraining of the recipe waits for the generator, or for its tokenizer."""
    return shows_generator(recipe) or _predicts_tokens(recipe)


def awaited_of_generator(recipe: Recipe) -> list[str]:
    """The generator's stages that some pretraining waits for, in the order of their work: all of them if it shows views
    or reconstructions, the tokenizer if it predicts tokens alone."""
    if shows_generator(recipe):
        return recipe.generator_stages
    return recipe.generator_stages[:1] if _predicts_tokens(recipe) else []
