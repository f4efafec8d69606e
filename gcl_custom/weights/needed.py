"""The weights that a recipe names: the one place that knows which keys name some."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcl_custom.recipe.features import PerceptualSettings, Vgg16Settings
from gcl_custom.recipe.generator import IcGanSettings, ImageToImageSettings, TokenGeneratorSettings, UnclipSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.weights.catalogue import CATALOGUE, Public


@dataclass(frozen=True)
class Needed:
    """Weights that a recipe names, once for all keys that name the same."""

    keys: tuple[str, ...]
    given: str
    """A path or an id of the hub, as the recipe has it."""
    folder: bool = False
    """Whether a folder is meant: of diffusers or transformers."""
    public: Public | None = None
    """What is known of it; none for weights of one's own."""
    exact: bool = False
    """Whether it bears the name of the public file, so that size and digest apply."""

    @property
    def where(self) -> str:
        return ", ".join(self.keys)

    @property
    def on_hub(self) -> bool:
        """Whether the hub's client keeps it in its own cache, under its id."""
        return self.folder and self.public is not None and self.given == self.public.repository

    @property
    def fetchable(self) -> bool:
        """Whether ``--download`` can bring it."""
        return self.exact and self.public is not None and not self.public.page


def needed(recipe: Recipe) -> list[Needed]:
    """The weights that a recipe takes from elsewhere, the generator's first; own networks that start anew take none."""
    found: dict[str, Needed] = {}
    for key, choice, given, folder, read in named(recipe):
        if not read:
            continue
        if before := found.get(given):
            found[given] = Needed((*before.keys, key), given, folder, before.public, before.exact)
        else:
            found[given] = Needed((key,), given, folder, *recognised(choice, given))
    return list(found.values())


def recognised(choice: str, given: str) -> tuple[Public | None, bool]:
    """What is known of the weights of this name for this choice, and whether they are exactly those of the catalogue.

    A folder or file by another name is most likely a copy or another of the same family: its licence is that of the
    family, while size and digest are unknown.
    """
    family = [public for public in CATALOGUE if public.choice == choice]
    for public in family:
        if given == public.repository or (public.name != public.repository and Path(given).name == public.name):
            return public, True
    # A folder or hub id may hold any model of this kind, under any licence, unless its name says which.
    likely = [public for public in family if public.file or public.url or public.page]
    likely += [public for public in family if Path(given).name == Path(public.repository).name]
    return (likely[0], False) if likely else (None, False)


HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class Named(NamedTuple):
    """Weights at a key of a recipe."""

    key: str
    choice: str
    given: str
    folder: bool = False
    read: bool = True
    """Whether any stage reads them: an edit of latents leaves the transformer alone."""

    @property
    def without_folders(self) -> str:
        """What may be shown to others: an id of the hub as it is, and of a path its last part."""
        on_hub = self.folder and HUB_ID.fullmatch(self.given) and not Path(self.given).is_dir()
        return self.given if on_hub else Path(self.given).name


def named(recipe: Recipe) -> Iterator[Named]:
    """Every key of the recipe that names weights; the only place that knows them."""
    yield from _of_generator(recipe)
    if recipe.cost_benefit.fid_weights is not None:
        yield Named("cost_benefit.fid_weights", "fid", recipe.cost_benefit.fid_weights)


def _of_generator(recipe: Recipe) -> Iterator[Named]:
    generator = recipe.generator
    if isinstance(generator, TokenGeneratorSettings):
        parts = (("tokenizer", generator.tokenizer, True), ("maskgit", generator.maskgit, recipe.inpaints))
        for part, settings, read in parts:
            if settings.weights is not None:
                yield Named(f"generator.{part}.weights", settings.name, settings.weights, read=read)
        yield from _features("generator.tokenizer.perceptual", generator.tokenizer.perceptual)
        return
    if isinstance(generator, IcGanSettings):
        yield Named("generator.weights", "icgan", generator.weights)
        yield Named("generator.encoder", "icgan encoder", generator.encoder)
    elif isinstance(generator, ImageToImageSettings | UnclipSettings):
        yield Named("generator.model", generator.name, generator.model, folder=True)
        if isinstance(generator, ImageToImageSettings) and generator.captions:
            yield Named("generator.captions", "captions", generator.captions, folder=True)
    yield from _features("generator.features", generator.features)


def _features(key: str, settings: PerceptualSettings) -> Iterator[Named]:
    if isinstance(settings, Vgg16Settings):
        yield Named(f"{key}.weights", "vgg16", settings.weights)


def licences(recipe: Recipe) -> list[str]:
    """A line for each of the public weights of a recipe that may not be used commercially."""
    return [
        f"{need.where}: {need.public.title} ({need.given}) may not be used commercially: {need.public.licence}. "
        f"Whether views made with it, and backbones that learn from those, may be is for that licence to say: read it"
        for need in needed(recipe)
        if need.public and not need.public.commercial
    ]


# ---------------------------------------------------------------- what others have measured


class Speed(NamedTuple):
    """A published figure."""

    milliseconds: float
    """For one view, one tile at a time."""
    of: str


RTX = "one RTX 3090, batch 1"
PUBLISHED = {
    "icgan": Speed(19.8, f"IC-GAN, {RTX}"),
    "centre": Speed(98.9, f"in-painting with a MaskGIT of 227 M, 12 steps, {RTX}"),
    "outpainting": Speed(100.9, f"out-painting with a MaskGIT of 227 M, 12 steps, {RTX}"),
}
"""S. Armstrong, dissertation, Colorado State University 2024. Of the others, nobody has published one."""


def published_speed(recipe: Recipe) -> Speed | None:
    """The published time of a view by public networks, where there is one for this generator and strategy."""
    generator, strategy = recipe.generator, recipe.views.strategy
    if isinstance(generator, IcGanSettings):
        return PUBLISHED["icgan"] if strategy is None and not generator.inversion_steps else None
    if not isinstance(generator, TokenGeneratorSettings) or strategy is None or recipe.views.decoding_steps != 12:
        return None
    if recipe.data.size != 256 or generator.maskgit.name != "halton":
        return None
    return PUBLISHED.get(strategy.name)
