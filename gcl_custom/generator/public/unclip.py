"""Instance diffusion: a new image from pure noise, under nothing but the tile's own CLIP embedding.

    b  tiles     d  size of an embedding     h w  grid of latents

Stable unCLIP, after "Can generative models improve self-supervised representation learning?", arXiv:2403.05966: empty
prompt, 10 steps of DDIM (arXiv:2010.02502). ``noise_level`` blurs the embedding by as many steps of its own noise
schedule (arXiv:2204.06125): 0 keeps what CLIP saw of the tile, the highest level leaves little of it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.augment.interface import Tiles
from gcl_custom.generator.public.autoencoder import Autoencoder
from gcl_custom.randomness import Randomness
from gcl_custom.weights.hub import load_pipeline, quiet, require_colours

MODEL = "sd2-community/stable-diffusion-2-1-unclip"
LICENCE = "CreativeML Open RAIL++-M: uses that its attachment A lists are forbidden"


class Unclip:
    """Stable unCLIP as a generator: its features are CLIP embeddings until they are augmented, and latents after.

    Args:
        model: id on the hub, or a folder.
        where: what messages shall call the place of these settings.
        bands, side: of the tiles; the side is that of the views.
        steps: of DDIM.
        noise_level: of the embedding, from 0 to below the length of its noise schedule (1,000).
        guidance: how far each step is drawn away from what the model predicts without the embedding; 1 or less for
            not at all, which halves the time.
        precision: of the networks.

    Raises:
        UserError: tiles of other bands, a noise level that the model lacks, or a model that cannot be read.
    """

    def __init__(
        self,
        model: str,
        where: str,
        *,
        bands: int,
        side: int,
        steps: int,
        noise_level: int,
        guidance: float,
        device: torch.device,
        precision: torch.dtype = torch.float32,
    ) -> None:
        require_colours(where, bands)
        from diffusers import DDIMScheduler

        self.device, self._steps, self._noise_level, self._guidance = device, steps, noise_level, guidance
        self.pipeline = load_pipeline("StableUnCLIPImg2ImgPipeline", model, where, device, precision)
        levels = self.pipeline.image_noising_scheduler.config.num_train_timesteps
        if not 0 <= noise_level < levels:
            raise UserError(f"{where}: noise_level {noise_level} is outside 0 to {levels - 1}, which {model} knows")
        self.pipeline.scheduler = DDIMScheduler.from_config(self.pipeline.scheduler.config)
        native = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
        self._autoencoder = Autoencoder(self.pipeline.vae, native, side)
        self.networks: Sequence[nn.Module] = (self.pipeline.unet, self.pipeline.vae, self.pipeline.image_encoder)
        with torch.inference_mode():
            self._empty, _ = self.pipeline.encode_prompt("", device, 1, do_classifier_free_guidance=False)

    @torch.inference_mode()
    def encode(self, tiles: Float[Tensor, "b 3 y x"], rng: Randomness | None = None) -> Float[Tensor, "b d"]:
        """Tiles in [0, 1] to CLIP embeddings; nothing is drawn."""
        seen = self.pipeline.feature_extractor(tiles.to(self.device).float(), do_rescale=False, return_tensors="pt")
        encoder = self.pipeline.image_encoder
        return encoder(seen.pixel_values.to(self.device, encoder.dtype)).image_embeds.float()

    @torch.inference_mode()
    def augment(self, features: Float[Tensor, "b d"], rng: Randomness) -> Float[Tensor, "b c h w"]:
        """Embeddings to latents of new images, each from its tile's own noise."""
        prompts = self._empty.expand(len(features), -1, -1)
        with quiet():
            return self.pipeline(
                image_embeds=features.to(self.pipeline.unet.dtype),
                prompt_embeds=prompts,
                negative_prompt_embeds=prompts if self._guidance > 1 else None,
                noise_level=self._noise_level,
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                generator=rng.generators("unclip"),
                output_type="latent",
            ).images.float()

    @torch.inference_mode()
    def decode(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 side side"]:
        """Latents to tiles in [0, 1]."""
        return self._autoencoder.decode(features)

    def shown(self, tiles: Tiles, features: Float[Tensor, "b d"], rng: Randomness) -> list[Tiles]:
        """Rows of a picture: tiles, and views of them; an embedding has no reconstruction."""
        return [tiles.to(self.device), self.decode(self.augment(features, rng))]
