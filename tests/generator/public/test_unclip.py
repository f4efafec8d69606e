import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.public.unclip import Unclip
from gcl_custom.randomness import Randomness

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2
CPU = torch.device("cpu")
NUMBERS = torch.tensor([3, 14, 15])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import save_unclip

    return save_unclip(tmp_path_factory.mktemp("unclip") / "unclip")


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def build(model: Path, **more: Any) -> Unclip:
    settings = {"bands": 3, "side": 20, "steps": 10, "noise_level": 0, "guidance": 10.0} | more
    return Unclip(str(model), "generator", device=CPU, **settings)


def rng(tiles: Tensor = NUMBERS, number: int = 0) -> Randomness:
    return Randomness(5, "views", number, tiles)


def test_features_are_clip_embeddings(model: Path, tiles: Tensor) -> None:
    from transformers import CLIPVisionModelWithProjection

    clip = CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder")
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    seen = torch.nn.functional.interpolate(tiles, (24, 24), mode="bicubic", antialias=True)
    with torch.no_grad():
        wanted = clip((seen - mean[:, None, None]) / std[:, None, None]).image_embeds
    torch.testing.assert_close(build(model).encode(tiles), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("noise_level", "guidance"), [(0, 10.0), (300, 1.0)])
def test_a_literal_loop_of_ddim(model: Path, tiles: Tensor, noise_level: int, guidance: float) -> None:
    """DDIM (arXiv:2010.02502, eq. 12, with σ = 0) from the noise schedule's own numbers, for each tile alone."""
    from diffusers import StableUnCLIPImg2ImgPipeline

    generator = build(model, noise_level=noise_level, guidance=guidance)
    embeddings = generator.encode(tiles)
    found = generator.augment(embeddings, rng())

    parts = StableUnCLIPImg2ImgPipeline.from_pretrained(model, use_safetensors=True)
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)  # ᾱ of scaled_linear
    empty, _ = parts.encode_prompt("", CPU, 1, False)
    for i, draws in enumerate(rng().generators("unclip")):
        noise = torch.randn(1, 16, generator=draws)
        mean, std = parts.image_normalizer.mean.detach(), parts.image_normalizer.std.detach()
        share = parts.image_noising_scheduler.alphas_cumprod[noise_level]
        blurred = (share.sqrt() * (embeddings[i : i + 1] - mean) / std + (1 - share).sqrt() * noise) * std + mean
        rates = [noise_level * math.exp(-math.log(10000) * k / 8) for k in range(8)]
        level = torch.tensor([[*map(math.cos, rates), *map(math.sin, rates)]])
        condition = torch.cat([blurred, level], dim=1)
        x = torch.randn(1, 4, 16, 16, generator=draws)
        for t in [100 * k + 1 for k in reversed(range(10))]:
            with torch.no_grad():
                v = parts.unet(x, t, empty, class_labels=condition).sample
                if guidance > 1:
                    without = parts.unet(x, t, empty, class_labels=torch.zeros_like(condition)).sample
                    v = without + guidance * (v - without)
            a, b = kept[t], kept[t - 100] if t > 100 else kept[0]
            image, noise_in_it = a.sqrt() * x - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * x
            x = b.sqrt() * image + (1 - b).sqrt() * noise_in_it
        torch.testing.assert_close(found[i], x[0], atol=1e-4, rtol=1e-4)


def test_a_view_depends_on_seed_number_and_tile_not_on_its_batch(model: Path, tiles: Tensor) -> None:
    generator = build(model, noise_level=100)

    def views(chosen: list[int], number: int = 0) -> Tensor:
        return generator.decode(generator.augment(generator.encode(tiles[chosen]), rng(NUMBERS[chosen], number)))

    whole = views([0, 1, 2])
    assert whole.shape == tiles.shape
    torch.testing.assert_close(views([2, 0]), whole[[2, 0]], atol=1e-4, rtol=1e-4)
    assert (views([0, 1, 2], number=1) - whole).abs().mean() > 1e-3


def test_noise_levels_that_the_model_lacks_and_other_bands_are_refused(model: Path) -> None:
    with pytest.raises(UserError, match="generator: noise_level 1000 is outside 0 to 999"):
        build(model, noise_level=1000)
    with pytest.raises(UserError, match="bands is 2"):
        build(Path("no/model"), bands=2)
