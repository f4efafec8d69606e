"""What a view costs with each public generator, at the public size and with random weights.

Weights change no time, so none are needed. Every row makes views of the same tiles, at the generator's own side, one
tile at a time and with the settings of the recipes: tokens by in-painting all but the outer ring in 12 steps, IC-GAN by
fresh noise. It says how the families compare on this machine, not how good their views are.
"""

import itertools
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from rich.table import Table
from torch import nn

from benchmarks import pipelines
from gcl_custom.console import console
from gcl_custom.generator.augment.interface import Generator
from gcl_custom.generator.public.biggan import BigGAN, Sizes
from gcl_custom.generator.public.halton_maskgit import HaltonMaskGIT
from gcl_custom.generator.public.icgan import IcGan
from gcl_custom.generator.public.llamagen import LlamaGenTokenizer
from gcl_custom.generator.public.mage import MageTransformer
from gcl_custom.generator.public.mage_tokenizer import MageTokenizer
from gcl_custom.generator.token_generator import TokenGenerator
from gcl_custom.randomness import Randomness
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.recipe.views import ViewsSettings
from gcl_custom.training.devices import described, pick_device, uses_bf16

HARDWARE = HardwareSettings(precision="auto")
LONG = 60.0
"""Seconds."""
HALTON = {"tiny": (384, 6, 6, 384, 1024), "small": (512, 6, 12, 510, 1536), "base": (768, 12, 12, 768, 2048)}
"""Width, heads, depth, width of all heads, and width inside SwiGLU."""


def main() -> None:
    torch.manual_seed(0)
    device = pick_device(HARDWARE)
    precision = "bf16" if uses_bf16(HARDWARE, device) else "fp32"
    table = Table("generator", "side", "parameters", "seconds a view", "of these encoding", box=None)
    for name in sys.argv[1:] or FAMILIES:
        side, build = FAMILIES[name]
        generator = build(device)
        parameters = sum(p.numel() for network in generator.networks for p in network.parameters())
        tile = torch.rand(1, 3, side, side)
        whole, encoding = measured(generator, tile)
        table.add_row(name, f"{side} px", f"{parameters / 1e6:,.0f} M", f"{whole:.2f}", f"{encoding:.2f}")
        del generator
    console.print(table)
    console.print(f"{described(device)}, {precision}; the faster of two tiles, of long ones a single one")


def measured(generator: Generator, tile: torch.Tensor) -> tuple[float, float]:
    """Seconds for a view, and for its encoding: the least of two, since other work can only add; of long ones, one."""
    times = []
    for number in range(2):
        rng = Randomness(0, "benchmark", number, torch.zeros(1, dtype=torch.long, device=generator.device))
        start = time.perf_counter()
        features = generator.encode(tile, rng)
        encoded = time.perf_counter()
        generator.decode(generator.augment(features, rng)).sum().item()
        times.append((time.perf_counter() - start, encoded - start))
        if times[0][0] > LONG:
            break
    return min(times)


def _tokens(tokenizer: Callable[[], Any], transformer: Callable[[], Any]) -> Callable[[torch.device], Generator]:
    views = ViewsSettings.model_validate({"strategy": {"name": "centre"}})
    return lambda device: TokenGenerator(tokenizer(), transformer(), views, HARDWARE, device)


def _llamagen() -> LlamaGenTokenizer:
    return LlamaGenTokenizer(16384, 8, 128, [128, 128, 256, 256, 512], 2, 256)


def _halton(size: str) -> Callable[[], HaltonMaskGIT]:
    width, heads, depth, inner, hidden = HALTON[size]
    return lambda: HaltonMaskGIT(
        16384, 16, width, heads, depth=depth, inner=inner, hidden=hidden, classes=1000, registers=1
    )


def _mage() -> MageTransformer:
    return MageTransformer(
        1024, 16, width=768, depth=12, heads=12, hidden=3072, decoder_width=768, decoder_depth=8, decoder_heads=16,
        decoder_hidden=3072,
    )  # fmt: skip


def _icgan(device: torch.device) -> IcGan:
    multiples = [16, 16, 8, 8, 4, 2, 1]
    channels = tuple((96 * a, 96 * b) for a, b in itertools.pairwise(multiples))
    sizes = Sizes(condition=2048, embedded=512, chunk=17, bottom=4, channels=channels, attention=frozenset({3}))
    trunk = torchvision.models.resnet50(weights=None)
    trunk.set_submodule("fc", nn.Identity())
    return IcGan(BigGAN(sizes), trunk, 256, device, strength=1.0, truncation=0.7, inversion_steps=0)


FAMILIES: dict[str, tuple[int, Callable[[torch.device], Generator]]] = {
    "Halton-MaskGIT tiny": (256, _tokens(_llamagen, _halton("tiny"))),
    "Halton-MaskGIT small": (256, _tokens(_llamagen, _halton("small"))),
    "Halton-MaskGIT base": (256, _tokens(_llamagen, _halton("base"))),
    "MAGE-B": (256, _tokens(lambda: MageTokenizer(1024, 128, [128, 128, 256, 256, 512], 2, 256), _mage)),
    "IC-GAN": (256, _icgan),
    "SDXL-Turbo": (256, partial(pipelines.sdxl_turbo, HARDWARE)),
    "Stable unCLIP": (256, partial(pipelines.unclip, HARDWARE)),
}


if __name__ == "__main__":
    main()
