"""Public diffusion models at their public sizes, with random weights.

The sizes are those of the hub's configurations: 2,567 M parameters for the U-Net of SDXL-Turbo, 870 M for that of
Stable unCLIP 2.1. The folder of a pipeline takes up to 7 GB on disk for a while, and its models as much memory.
"""

import tempfile
from collections.abc import Callable
from typing import TypeVar

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from gcl_custom.generator.public.diffusion import ImageToImage
from gcl_custom.generator.public.unclip import Unclip
from gcl_custom.recipe.hardware import HardwareSettings
from gcl_custom.training.devices import precision_of

Opened = TypeVar("Opened", ImageToImage, Unclip)
WHERE = "benchmark"
WORDS = 77
"""Pieces of words that CLIP reads."""


def sdxl_turbo(hardware: HardwareSettings, device: torch.device) -> ImageToImage:
    """As in recipes/imagenet-diffusion.yaml, with an empty caption."""
    return _read(
        lambda model, precision: ImageToImage(
            model, WHERE, bands=3, side=256, steps=10, strength=0.2, device=device, precision=precision
        ),
        lambda: diffusers.StableDiffusionXLPipeline(
            vae=_vae(512),
            text_encoder=CLIPTextModel(_text(768, 12, 12)),
            text_encoder_2=CLIPTextModelWithProjection(_text(1280, 32, 20)),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            unet=diffusers.UNet2DConditionModel(
                sample_size=64, block_out_channels=(320, 640, 1280), cross_attention_dim=2048,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            ),
            scheduler=diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
        ),
        precision_of(hardware, device),
    )  # fmt: skip


def unclip(hardware: HardwareSettings, device: torch.device) -> Unclip:
    """As in recipes/imagenet-unclip.yaml."""
    return _read(
        lambda model, precision: Unclip(
            model, WHERE, bands=3, side=256, steps=10, noise_level=0, guidance=10.0, device=device, precision=precision
        ),
        lambda: diffusers.StableUnCLIPImg2ImgPipeline(
            feature_extractor=CLIPImageProcessor(),
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                    patch_size=14, projection_dim=1024,
                )
            ),
            image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=1024),
            image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
            tokenizer=_tokenizer(),
            text_encoder=CLIPTextModel(_text(1024, 23, 16)),
            unet=diffusers.UNet2DConditionModel(
                sample_size=96, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=1024,
                attention_head_dim=[5, 10, 20, 20], use_linear_projection=True, class_embed_type="projection",
                projection_class_embeddings_input_dim=2048,
            ),
            scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
            vae=_vae(768),
        ),
        precision_of(hardware, device),
    )  # fmt: skip


def _read(
    opened: Callable[[str, torch.dtype], Opened],
    build: Callable[[], diffusers.DiffusionPipeline],
    precision: torch.dtype,
) -> Opened:
    """A pipeline, saved and read as a user's is; made in its precision, since in fp32 the largest takes 13 GB."""
    default = torch.get_default_dtype()
    with tempfile.TemporaryDirectory() as folder:
        torch.set_default_dtype(precision)
        try:
            build().save_pretrained(folder)
        finally:
            torch.set_default_dtype(default)
        return opened(folder, precision)


def _vae(side: int) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=side,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def _text(width: int, depth: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=heads,
        projection_dim=width, max_position_embeddings=WORDS, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip


def _tokenizer() -> CLIPTokenizer:
    """Knows no word: prompts are empty."""
    return CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[], model_max_length=WORDS)
