"""The weights that a recipe names, and what is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gcl_custom.recipe.pretraining import FileStartSettings, PretrainSettings, RunStartSettings
from gcl_custom.recipe.recipe import Recipe
from gcl_custom.recipe.section import NamedWeights
from gcl_custom.weights.catalogue import CATALOGUE, PUBLISHED, Public, Speed


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
    """The weights that a recipe takes from elsewhere, the generator's first. Own networks that start anew take none."""
    found: dict[str, Needed] = {}
    for weights in named(recipe):
        if not weights.read:
            continue
        key, given, folder = weights.key, weights.given, weights.folder
        if before := found.get(given):
            found[given] = Needed((*before.keys, key), given, folder, before.public, before.exact)
        else:
            found[given] = Needed((key,), given, folder, *recognised(weights.choice, given))
    return list(found.values())


def recognised(choice: str, given: str) -> tuple[Public | None, bool]:
    """The entry of the catalogue for weights of this name, and whether they are exactly those of the entry.

    A folder or file of another name is most likely a copy, or another model of the same family. It has the licence of
    the family, and an unknown size and digest.
    """
    if choice == "timm":
        from gcl_custom.weights.starts import licence_of_timm

        licence = licence_of_timm(given)
        commercial = "nc" not in licence.lower().split("-")
        return Public(choice, f"timm's {given.rpartition('/')[2]}", licence, commercial, repository=given), True
    family = [public for public in CATALOGUE if public.choice == choice]
    for public in family:
        if given == public.repository or (public.name != public.repository and Path(given).name == public.name):
            return public, True
    # A folder or hub id may hold any model of this kind, under any licence, unless its name says which.
    likely = [public for public in family if public.file or public.url or public.page]
    likely += [public for public in family if Path(given).name == Path(public.repository).name]
    return (likely[0], False) if likely else (None, False)


def named(recipe: Recipe) -> Iterator[NamedWeights]:
    """Every key of the recipe that names weights."""
    generator = recipe.generator
    for weights in generator.named_weights(recipe.views.strategy):
        yield weights.below("generator")
    for weights in generator.features.named_weights:
        yield weights.below(f"generator.{generator.features_key}")
    for key, settings in recipe.pretrain.public_networks.items():
        if (public := public_weights(key, settings)) is not None:
            yield public
    if recipe.cost_benefit.fid_weights is not None:
        yield NamedWeights("cost_benefit.fid_weights", "fid", recipe.cost_benefit.fid_weights, makes_views=False)


def public_weights(key: str, settings: PretrainSettings) -> NamedWeights | None:
    """The weights of a public network under their key, unless a package brings them along."""
    start = settings.start
    if isinstance(start, FileStartSettings | RunStartSettings):
        last = "weights" if start.name == "file" else "run"
        return NamedWeights(f"{key}.{last}", "file", start.weights, makes_views=False)
    if start.name == "timm":
        from gcl_custom.weights.starts import hub_id  # here, since torch takes seconds to import

        return NamedWeights(key, "timm", hub_id(settings.backbone), folder=True, makes_views=False)
    return None


def licences(recipe: Recipe) -> list[str]:
    """A line for each of the public weights of a recipe that may not be used commercially."""
    return [
        f"{need.where}: {need.public.title} ({need.given}) may not be used commercially: {need.public.licence}. "
        f"Whether views made with it, and backbones that learn from those, may be is for that licence to say: read it"
        for need in needed(recipe)
        if need.public and not need.public.commercial
    ]


def published_speed(recipe: Recipe) -> Speed | None:
    """The published time of a view by public networks, where there is one for this generator and strategy."""
    name = recipe.generator.published_as(recipe.views, recipe.data.size)
    return PUBLISHED.get(name) if name else None
