"""Tiny models of each public kind, with random weights, saved as their hub has them. Imports diffusers: be lazy."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WORDS = ("a", "field", "forest", "lake", "of", "and", "road", "wide", "brown", "green")
WIDTH = 16
"""Of every text encoder's and image encoder's states."""


def _tokenizer() -> CLIPTokenizer:
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    letters = sorted(set("".join(WORDS)))
    for text in (*letters, *(letter + "</w>" for letter in letters)):
        vocabulary[text] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24)


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, projection_dim=WIDTH, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip


def _vae() -> AutoencoderKL:
    kind = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=32, **kind
    )


def _unet(cross: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=4, cross_attention_dim=cross, **more,
    )  # fmt: skip


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl(folder: Path) -> Path:
    """Like SDXL-Turbo: 32 px, two text encoders, Euler's ancestral sampler with trailing spacing."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    return _save(
        StableDiffusionXLPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config(tokenizer)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=_unet(
                2 * WIDTH,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            ),
            scheduler=EulerAncestralDiscreteScheduler(
                beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
            ),
        ),
        folder,
    )


def save_sd(folder: Path) -> Path:
    """Like Stable Diffusion 1.5: 32 px, one text encoder, PNDM."""
    torch.manual_seed(1)
    tokenizer = _tokenizer()
    return _save(
        StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=_unet(WIDTH),
            scheduler=PNDMScheduler(
                beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
        folder,
    )


def save_unclip(folder: Path) -> Path:
    """Like Stable unCLIP 2.1: 32 px, conditioned on the embedding of a CLIP that sees 24 px."""
    torch.manual_seed(2)
    tokenizer = _tokenizer()
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=WIDTH)
    with torch.no_grad():
        normalizer.mean.normal_(0, 0.1)
        normalizer.std.uniform_(0.5, 1.5)
    return _save(
        StableUnCLIPImg2ImgPipeline(
            feature_extractor=CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=WIDTH,
                    projection_dim=WIDTH,
                    intermediate_size=24,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    image_size=24,
                    patch_size=8,
                )
            ),
            image_normalizer=normalizer,
            image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
            tokenizer=tokenizer,
            text_encoder=CLIPTextModel(_text_config(tokenizer)),
            unet=_unet(WIDTH, class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH),
            scheduler=DDIMScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.012,
                prediction_type="v_prediction",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            vae=_vae(),
        ),
        folder,
    )


def save_blip(folder: Path) -> Path:
    """Like BLIP's captioner of base size: 24 px, words of a small vocabulary."""
    torch.manual_seed(3)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, bos_token="[DEC]")
    text = {
        "vocab_size": len(vocabulary), "hidden_size": WIDTH, "encoder_hidden_size": WIDTH, "projection_dim": WIDTH,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 40,
        "bos_token_id": 5, "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 24, "patch_size": 8, "initializer_range": 0.02,
    }  # fmt: skip
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():  # so that captions differ between tiles
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(20)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 24, "width": 24}), tokenizer).save_pretrained(folder)
    return folder
