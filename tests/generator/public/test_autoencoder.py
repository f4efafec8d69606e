from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gcl_custom.errors import UserError
from gcl_custom.generator.public.autoencoder import Autoencoder


class Halves(nn.Module):
    """Stands for diffusers' AutoencoderKL: means of 2 x 2 px, with a spread that encoding must not draw from."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = {"scaling_factor": 0.25, **config}
        self.config = type("Config", (dict,), {"__getattr__": dict.__getitem__})(self.config)

    def encode(self, pixels: Tensor) -> Any:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        means = nn.functional.avg_pool2d(pixels, 2)
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(torch.cat([means, torch.zeros_like(means)], 1)))

    def decode(self, latents: Tensor) -> Any:
        return SimpleNamespace(sample=latents.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_latents_are_the_scaled_mode() -> None:
    tiles = torch.rand(2, 3, 8, 8)
    means = nn.functional.avg_pool2d(2 * tiles - 1, 2)
    torch.testing.assert_close(Autoencoder(Halves(), 8, 8).encode(tiles), 0.25 * means)
    mean, std = [0.1, 0.2, 0.3], [2.0, 4.0, 8.0]
    shifted = Autoencoder(Halves(latents_mean=mean, latents_std=std), 8, 8)
    for band in range(3):
        torch.testing.assert_close(shifted.encode(tiles)[:, band], 0.25 * (means[:, band] - mean[band]) / std[band])
    flat = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(shifted.decode(shifted.encode(flat)), flat)


def test_tiles_of_another_side_are_seen_at_the_model_s_and_given_back_at_theirs() -> None:
    ramp = torch.linspace(0.2, 0.8, 10).expand(1, 3, 10, 10)
    autoencoder = Autoencoder(Halves(), native=32, side=10)
    latents = autoencoder.encode(ramp)
    assert latents.shape == (1, 3, 16, 16)
    found = autoencoder.decode(latents)
    assert found.shape == ramp.shape
    torch.testing.assert_close(found, ramp, atol=0.01, rtol=0)


def test_decoded_tiles_lie_in_0_to_1_and_overflow_is_an_error() -> None:
    autoencoder = Autoencoder(Halves(), 8, 12)
    decoded = autoencoder.decode(3 * torch.randn(2, 3, 4, 4))
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    with pytest.raises(UserError, match="overflowed"):
        autoencoder.decode(torch.full((1, 3, 4, 4), float("nan")))
