"""Public weights, as plain data: their titles, places and licences, and times that others have measured.

Publishers state the licences, sizes, sides and digests: model cards and file listings on the hub, elsewhere the LICENSE
and README of the authors' repositories. What nobody states is left out. Nothing is looked up on a network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
"""If a recipe names an unknown file, the first entry of its choice stands for the file."""

# ---------------------------------------------------------------- what others have measured


class Speed(NamedTuple):
    """A published time."""

    milliseconds: float
    """For one view, one tile at a time."""
    of: str


RTX = "one RTX 3090, batch 1"
PUBLISHED = {
    "icgan": Speed(19.8, f"IC-GAN, {RTX}"),
    "centre": Speed(98.9, f"in-painting with a MaskGIT of 227 M, 12 steps, {RTX}"),
    "outpainting": Speed(100.9, f"out-painting with a MaskGIT of 227 M, 12 steps, {RTX}"),
}
"""S. Armstrong, dissertation, Colorado State University 2024. Nobody has published times of the others."""
