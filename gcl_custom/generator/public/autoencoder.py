"""The VAE of a latent diffusion model: tiles of any side to latents at the side that the model knows, and back.

    b  tiles     y x  pixels of a tile     h w  grid of latents

Latents are the mode of the posterior (arXiv:2112.10752, section 3.1), so that a tile has one encoding, scaled to about
unit variance as the model's configuration says.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.resizing import resized


class Autoencoder:
    """Encodes and decodes with diffusers' AutoencoderKL.

    Args:
        native: side in pixels that the diffusion model was trained at.
        side: side in pixels of the tiles that ``decode`` gives.
    """

    def __init__(self, vae: Any, native: int, side: int) -> None:
        self._vae, self._native, self._side = vae, native, side
        mean, std = (vae.config.get(name) for name in ("latents_mean", "latents_std"))
        whole = mean is not None and std is not None
        self._mean = torch.tensor(mean if whole else 0.0, device=vae.device).view(1, -1, 1, 1)
        self._std = torch.tensor(std if whole else 1.0, device=vae.device).view(1, -1, 1, 1) / vae.config.scaling_factor

    def encode(self, tiles: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d h w"]:
        """Tiles in [0, 1] to scaled latents in fp32, on the device of the VAE."""
        pixels = 2 * resized(tiles.to(self._vae.device, torch.float32), self._native) - 1
        latents = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode().float()
        return (latents - self._mean) / self._std

    def decode(self, latents: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 side side"]:
        """Scaled latents to tiles in [0, 1].

        Raises:
            UserError: the latents are not finite: the diffusion model overflowed in its precision.
        """
        if not latents.isfinite().all():
            raise UserError(
                "views: the diffusion model overflowed in half precision. Use --set hardware.precision=bf16 or fp32"
            )
        unscaled = (latents.float() * self._std + self._mean).to(self._vae.dtype)
        return resized((self._vae.decode(unscaled).sample.float() / 2 + 0.5).clamp(0, 1), self._side)
