"""Image-to-image diffusion: noise of a strength is added to a tile's latents and taken away again, under its caption.

    b  tiles     h w  grid of latents     d  channels of a latent

SDEdit, arXiv:2108.01073, section 3, in the latent space of a model (arXiv:2112.10752). Of ``steps`` steps from pure
noise to the image, the last int(steps * strength) are taken: strength 0 is the tile up to the VAE, 1 a new image. The
paper of the method uses SDXL-Turbo, whose guidance is 0, with 10 steps and strengths from 0.1 to 0.5.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.interface import Tiles, picture_rows
from gcl_custom.generator.augment.latent_edits import AllLatent
from gcl_custom.generator.public.autoencoder import Autoencoder
from gcl_custom.generator.public.captions import CaptionFile
from gcl_custom.randomness import Randomness
from gcl_custom.weights.hub import load_pipeline, quiet, require_colours

MODEL = "stabilityai/sdxl-turbo"
LICENCE = "Stability AI non-commercial research community licence: no commercial use"
EMBEDDED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""What encode_prompt gives, in this order; Stable Diffusion 1 and 2 give the first two alone."""


def require_a_step(where: str, steps: int, strength: float) -> None:
    """Look at strength and steps before any work; strength 0 takes no step and is right.

    Raises:
        UserError: the strength is outside [0, 1], or so low that no step would be taken.
    """
    if not 0 <= strength <= 1:
        raise UserError(f"{where}: strength {strength:g} is outside 0 (the tile itself) to 1 (a new image)")
    if strength > 0 and int(steps * strength) < 1:
        enough = next(n for n in range(max(steps, math.ceil(1 / strength)), 2**62) if int(n * strength) >= 1)
        raise UserError(
            f"{where}: {steps} steps at strength {strength:g} come to no denoising step at all "
            f"(steps times strength is below 1). Take at least {enough} steps, or a strength of at least "
            f"{math.ceil(1000 / steps) / 1000:g}"
        )


class ImageToImage(AllLatent):
    """A public diffusion model (Stable Diffusion 1, 2, XL, or distilled from one) as a generator.

    Args:
        model: id on the hub, or a folder.
        where: what messages shall call the place of these settings.
        bands, side: of the tiles; the side is that of the views.
        steps: from pure noise to an image.
        strength: share of the steps that is taken, 0 to 1.
        guidance: weight of the caption; 0 or 1 for models that are distilled to need none (one forward pass a step
            instead of two).
        captions: of all tiles to be augmented; empty prompts without.
        precision: of the diffusion model.

    Raises:
        UserError: tiles of other bands, settings that come to no step, or a model that cannot be read.
    """

    gaussian = False

    def __init__(
        self,
        model: str,
        where: str,
        *,
        bands: int,
        side: int,
        steps: int,
        strength: float,
        guidance: float = 0.0,
        captions: CaptionFile | None = None,
        device: torch.device,
        precision: torch.dtype = torch.float32,
    ) -> None:
        require_colours(where, bands)
        require_a_step(where, steps, strength)
        self.device = device
        self._steps, self._strength, self._guidance, self._captions = steps, strength, guidance, captions
        self.pipeline = load_pipeline("AutoPipelineForImage2Image", model, where, device, precision)
        native = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
        self._autoencoder = Autoencoder(self.pipeline.vae, native, side)
        # The VAE's scaling makes the spread of latents about 1.
        self.mean, self.deviation = torch.zeros(1, device=device), torch.ones(1, device=device)
        self.networks: Sequence[nn.Module] = (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder)

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b 3 y x"], rng: Randomness | None = None) -> Float[Tensor, "b d h w"]:
        """Tiles in [0, 1] to latents; nothing is drawn."""
        return self._autoencoder.encode(tiles)

    @torch.inference_mode()
    def augment(self, features: Float[Tensor, "b d h w"], rng: Randomness) -> Float[Tensor, "b d h w"]:
        """Latents of each tile, noised and denoised under its caption, with its own noise.

        Raises:
            UserError: a tile has no caption.
        """
        captions = self._captions.read(rng.tiles) if self._captions else [""] * len(features)
        if self._strength == 0:
            return features
        with quiet():
            return self.pipeline(
                image=features.to(self.pipeline.unet.dtype),
                **self._prompts(captions),
                strength=self._strength,
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                generator=rng.generators("diffusion"),
                output_type="latent",
            ).images.float()

    @torch.inference_mode()
    def decode(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 side side"]:
        """Latents to tiles in [0, 1]."""
        return self._autoencoder.decode(features)

    def shown(self, tiles: Tiles, features: Float[Tensor, "b d h w"], rng: Randomness) -> list[Tiles]:
        """Rows of a picture; see ``interface.picture_rows``."""
        return picture_rows(self, tiles, features, rng)

    def render(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 side side"]:
        """As ``decode``, with a gradient."""
        return self._autoencoder.decode(features)

    def _prompts(self, captions: list[str]) -> dict[str, Tensor]:
        """The embeddings of captions, as arguments of the pipeline; each that differs is computed once."""
        distinct = sorted(set(captions))
        found = self.pipeline.encode_prompt(
            prompt=distinct,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=self._guidance > 1,
        )
        which: Int[Tensor, " b"] = torch.tensor([distinct.index(caption) for caption in captions], device=self.device)
        return {name: value[which] for name, value in zip(EMBEDDED, found, strict=False) if value is not None}
