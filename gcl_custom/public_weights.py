"""Public weights that a recipe may name, as plain data: what they are, where they are, and under which licence.

Licences, sizes, sides and digests are those that their publishers state: on the hub the model cards and the listings of
files, elsewhere the LICENSE and README of the authors' repositories. Where none is stated, none stands here. Nothing
heavy is imported, and nothing is looked up on a network.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcl_custom.recipe import Recipe
from gcl_custom.recipe_generator import IcGan, ImageToImage, Perceptual, TokenGenerator, Unclip, Vgg16

MILLION, MB = 10**6, 10**6


@dataclass(frozen=True)
class Public:
    """Weights that others give away."""

    choice: str
    """Name in the recipe of what takes them: a tokenizer, a transformer, a generator, or a part of one."""
    title: str
    licence: str
    commercial: bool = True
    """Whether the licence allows commercial use."""
    pixels: str = ""
    """Sides of the images that they were trained on; empty for those that take any."""
    parameters: int | None = None
    repository: str = ""
    """On the Hugging Face hub."""
    file: str = ""
    """At the top of the repository; without it, the repository is taken as a folder, its safetensors alone."""
    url: str = ""
    """Where they are not on the hub."""
    page: str = ""
    """Where no file can be fetched by this program, the page that leads to it."""
    member: str = ""
    """Of the archive that ``url`` leads to, the file that is wanted."""
    size: int | None = None
    """Bytes, as stated by the publisher to two or three digits."""
    estimated: bool = False
    """The size was computed from the number of parameters, or added up, instead of stated."""
    sha256: str = ""
    """Of the file, or its first digits, where the publisher states them."""

    @property
    def name(self) -> str:
        """Of the file that a recipe names, or the repository of a folder."""
        return Path(self.member or self.file or self.url).name or self.repository


OPENRAIL = "CreativeML Open RAIL++-M (lists forbidden uses)"
NON_COMMERCIAL = "CC-BY-NC 4.0"
STABILITY = "Stability AI Non-Commercial Research Community"
"""Of SDXL-Turbo, whose card sends those who want to use it commercially to https://stability.ai/license."""
HALTON = "llvictorll/Halton-MaskGIT"
FID_FILE = "weights-inception-2015-12-05-6726825d.pth"


def _halton(name: str, pixels: str, size: int, sha256: str = "") -> Public:
    file = f"ImageNet_{pixels}_{name}.pth"
    return Public(
        "halton", f"Halton-MaskGIT, {name}", "MIT", True, pixels, None, HALTON, file, size=size, sha256=sha256
    )


CATALOGUE = (
    _halton("base", "256", 1710 * MB),
    _halton("small", "256", 832 * MB, "760b9937d16157e7e518fbf405efe281552933242b552d5e8262cb10507fb0e2"),
    _halton("tiny", "256", 276 * MB),
    _halton("small", "384", 834 * MB, "76bad1f175083210e27f794674b27efd54266b5b90471a383322c8840749ae5d"),
    _halton("base", "384", 1710 * MB, "3e707c8fcf75ddf73d812de04d2561d3ff69f52f21c08e079e0fa4d0b596fcd6"),
    Public(
        "halton", "Halton-MaskGIT, large", "MIT", True, "384", 480 * MILLION, HALTON, "ImageNet_384_large.pth",
        size=4 * 480 * MB, estimated=True,
    ),
    Public(
        "llamagen", "LlamaGen's tokenizer", "MIT", True, "256", 72 * MILLION, "FoundationVision/LlamaGen",
        "vq_ds16_c2i.pt", size=4 * 72 * MB, estimated=True,
    ),
    Public("mage", "MAGE, with its tokenizer", "MIT", True, "256", page="https://github.com/LTH14/mage"),
    Public(
        "icgan", "IC-GAN, BigGAN backbone", NON_COMMERCIAL, False, "256", 116 * MILLION,
        url="https://dl.fbaipublicfiles.com/ic_gan/icgan_biggan_imagenet_res256.tar.gz", member="G_ema_best0.pth",
        size=4 * 116 * MB, estimated=True,
    ),
    Public(
        "icgan encoder", "SwAV's ResNet-50, 800 epochs", NON_COMMERCIAL, False,
        url="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
    ),
    Public(
        "diffusion", "SDXL-Turbo", STABILITY, False, "512", 3469 * MILLION, "stabilityai/sdxl-turbo", size=6940 * MB,
    ),
    Public(
        "captions", "BLIP, base", "BSD-3-Clause", True, "", None, "Salesforce/blip-image-captioning-base",
        size=990 * MB,
    ),
    Public(
        "unclip", "Stable unCLIP 2.1", OPENRAIL, True, "768", 1926 * MILLION,
        "sd2-community/stable-diffusion-2-1-unclip", size=3850 * MB, estimated=True,
    ),
    Public(
        "unclip", "Stable unCLIP 2.1, small", OPENRAIL, True, "768", None,
        "radames/stable-diffusion-2-1-unclip-small-img2img",
    ),
    Public(
        "vgg16", "VGG16 of torchvision", "BSD-3-Clause", True, "", 138 * MILLION,
        url="https://download.pytorch.org/models/vgg16-397923af.pth", size=528 * 2**20, sha256="397923af",
    ),
    Public(
        "fid", "Inception v3 of FID, by torch-fidelity", "Apache-2.0", True, "299", 24 * MILLION,
        url=f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FID_FILE}",
        size=4 * 24 * MB, estimated=True, sha256="6726825d",
    ),
)  # fmt: skip
"""The first of those that serve the same choice stands for it where a recipe names a file by another name."""


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
    if isinstance(generator, TokenGenerator):
        parts = (("tokenizer", generator.tokenizer, True), ("maskgit", generator.maskgit, recipe.inpaints))
        for part, settings, read in parts:
            if settings.weights is not None:
                yield Named(f"generator.{part}.weights", settings.name, settings.weights, read=read)
        yield from _features("generator.tokenizer.perceptual", generator.tokenizer.perceptual)
        return
    if isinstance(generator, IcGan):
        yield Named("generator.weights", "icgan", generator.weights)
        yield Named("generator.encoder", "icgan encoder", generator.encoder)
    elif isinstance(generator, ImageToImage | Unclip):
        yield Named("generator.model", generator.name, generator.model, folder=True)
        if isinstance(generator, ImageToImage) and generator.captions:
            yield Named("generator.captions", "captions", generator.captions, folder=True)
    yield from _features("generator.features", generator.features)


def _features(key: str, settings: Perceptual) -> Iterator[Named]:
    if isinstance(settings, Vgg16):
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
    if isinstance(generator, IcGan):
        return PUBLISHED["icgan"] if strategy is None and not generator.inversion_steps else None
    if not isinstance(generator, TokenGenerator) or strategy is None or recipe.views.decoding_steps != 12:
        return None
    if recipe.data.size != 256 or generator.maskgit.name != "halton":
        return None
    return PUBLISHED.get(strategy.name)
