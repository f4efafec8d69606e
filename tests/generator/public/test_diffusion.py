from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.generator.public.captions import CaptionFile
from gcl_custom.generator.public.diffusion import ImageToImage, require_a_step
from gcl_custom.randomness import Randomness

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, numpy 2
CPU = torch.device("cpu")
NUMBERS = torch.tensor([3, 14, 15])
CAPTIONS = ["a wide field", "green forest and lake", "a wide field"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import tiny_models

    folder = tmp_path_factory.mktemp("diffusion")
    return {"sdxl": tiny_models.save_sdxl(folder / "sdxl"), "sd": tiny_models.save_sd(folder / "sd")}


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def captions(tmp_path: Path) -> CaptionFile:
    file = CaptionFile(tmp_path / "captions.jsonl")
    file.append(NUMBERS, CAPTIONS)
    return file


def build(model: Path, strength: float, **more: Any) -> ImageToImage:
    return ImageToImage(str(model), "generator", bands=3, side=20, steps=10, strength=strength, device=CPU, **more)


def rng(tiles: Tensor = NUMBERS, number: int = 0) -> Randomness:
    return Randomness(5, "views", number, tiles)


@pytest.mark.parametrize(("kind", "guidance"), [("sdxl", 0.0), ("sdxl", 4.0), ("sd", 7.5)])
def test_a_literal_loop_over_scheduler_and_unet(
    models: dict[str, Path], tiles: Tensor, captions: CaptionFile, kind: str, guidance: float
) -> None:
    """Each tile alone, with parts read anew by diffusers itself: noise at the right step, U-Net, scheduler, decode."""
    from diffusers import DiffusionPipeline

    generator = build(models[kind], 0.4, guidance=guidance, captions=captions)
    latents = generator.encode(tiles)
    found = generator.augment(latents, rng())

    parts = DiffusionPipeline.from_pretrained(models[kind], use_safetensors=True)
    for i, (latent, caption, draws) in enumerate(zip(latents, CAPTIONS, rng().generators("diffusion"), strict=True)):
        embedded = parts.encode_prompt(caption, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=True)
        more: dict[bool, Any] = {True: None, False: None}
        if kind == "sdxl":
            sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]])  # original size, crop, target size
            more = {
                True: {"text_embeds": embedded[2], "time_ids": sizes},
                False: {"text_embeds": embedded[3], "time_ids": sizes},
            }
        parts.scheduler.set_timesteps(10)
        times = parts.scheduler.timesteps[6:]
        if kind == "sdxl":  # where the scheduler of the other goes by the time alone
            parts.scheduler.set_begin_index(6)
        noise = torch.randn(1, *latent.shape, generator=draws)
        x = parts.scheduler.add_noise(latent[None], noise, times[:1])
        for t in times:
            seen = parts.scheduler.scale_model_input(x, t)
            with torch.no_grad():
                step = parts.unet(seen, t, embedded[0], added_cond_kwargs=more[True]).sample
                if guidance > 1:
                    without = parts.unet(seen, t, embedded[1], added_cond_kwargs=more[False]).sample
                    step = without + guidance * (step - without)
            drawn = {"generator": draws} if kind == "sdxl" else {}
            x = parts.scheduler.step(step, t, x, **drawn).prev_sample
        torch.testing.assert_close(found[i], x[0], atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            pixels = parts.vae.decode(x / parts.vae.config.scaling_factor).sample / 2 + 0.5
        pixels = torch.nn.functional.interpolate(pixels.clamp(0, 1), (20, 20), mode="bicubic", antialias=True)
        torch.testing.assert_close(generator.decode(found)[i], pixels[0].clamp(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sdxl", "sd"])
def test_a_view_depends_on_seed_number_and_tile_not_on_its_batch(
    models: dict[str, Path], tiles: Tensor, captions: CaptionFile, kind: str
) -> None:
    generator = build(models[kind], 0.3, captions=captions)

    def views(chosen: list[int], number: int = 0) -> Tensor:
        return generator.decode(generator.augment(generator.encode(tiles[chosen]), rng(NUMBERS[chosen], number)))

    whole = views([0, 1, 2])
    torch.testing.assert_close(views([2, 0]), whole[[2, 0]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(views([1]), whole[[1]], atol=1e-5, rtol=1e-5)
    assert (views([0, 1, 2], number=1) - whole).abs().mean() > 1e-3


def test_each_caption_counts_for_its_own_tile(models: dict[str, Path], tiles: Tensor, captions: CaptionFile) -> None:
    generator, plain = build(models["sdxl"], 0.5, captions=captions), build(models["sdxl"], 0.5)
    latents = generator.encode(tiles)
    before = generator.augment(latents, rng())
    assert ((before - plain.augment(latents, rng())).abs().amax(dim=(1, 2, 3)) > 1e-5).all()
    captions.append(NUMBERS[1:2], ["a brown road"])
    changed = (generator.augment(latents, rng()) - before).abs().amax(dim=(1, 2, 3))
    assert changed[1] > 1e-5
    assert changed[[0, 2]].max() < 1e-5
    with pytest.raises(UserError, match="has no caption of tile 99"):
        generator.augment(latents[:1], rng(torch.tensor([99])))


def test_strength_moves_views_away_from_their_tiles(models: dict[str, Path], tiles: Tensor) -> None:
    distances = []
    for strength in (0.0, 0.1, 0.3, 0.5, 1.0):
        generator = build(models["sdxl"], strength)
        latents = generator.encode(tiles)
        distances.append((generator.augment(latents, rng()) - latents).square().mean().sqrt().item())
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 0


def test_settings_that_come_to_no_step_are_refused_with_ones_that_do() -> None:
    for strength in (0.1, 0.2, 0.3, 0.5, 1.0, 0.0):
        require_a_step("views", 10, strength)
    message = (
        "views: 4 steps at strength 0.2 come to no denoising step.*at least 5 steps, or a strength of at least 0.25"
    )
    with pytest.raises(UserError, match=message):
        require_a_step("views", 4, 0.2)
    with pytest.raises(UserError, match=r"at least 34 steps, or a strength of at least 0\.334"):
        require_a_step("views", 3, 0.03)
    require_a_step("views", 3, 0.334)
    with pytest.raises(UserError, match=r"strength 1\.2 is outside"):
        require_a_step("views", 3, 1.2)


def test_what_cannot_be_is_refused_before_a_model_is_looked_for() -> None:
    with pytest.raises(UserError, match="bands is 4"):
        ImageToImage("no/model", "generator", bands=4, side=8, steps=10, strength=0.5, device=CPU)
    with pytest.raises(UserError, match="no denoising step"):
        ImageToImage("no/model", "generator", bands=3, side=8, steps=1, strength=0.5, device=CPU)
