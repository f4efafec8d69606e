"""The VQGAN's losses: reconstruction, perceptual, adversary (arXiv:2012.09841, eq. 4-7).

Departures from the paper: the adversarial loss is a hinge with the LeCam regulariser (arXiv:2104.03310, eq. 3,
one-sided as in the authors' code); generator and discriminator learn from the same forward pass, at the same step;
the adversarial loss is weighted by the trust in the discriminator; the perceptual distance has no learned weights, and
small tiles are enlarged for its network.

Shapes: b tiles, c bands, h w pixels.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gcl_custom.measures.feature_networks import SEEN_AT_PX, FeatureNetwork, enlarged
from gcl_custom.measures.similarity import feature_map_distance, structure_distance
from gcl_custom.recipe.features import band_groups

ADAPTIVE_MOST = 1e4
"""Upper bound of the adaptive weight, as in the paper's code."""


class Discriminator(nn.Module):
    """PatchGAN (arXiv:1611.07004, section 3.2.2): one logit for each of many overlapping squares.

    Departure: no normalisation between the layers, so that a tile's logits depend on that tile alone.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 1, 3, padding=1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 _h _w"]:
        """Logits, higher where the tiles look real."""
        return self.layers((2 * tiles - 1).contiguous(memory_format=torch.channels_last)).float()


class Adversarial(NamedTuple):
    """The adversary's losses for a batch of reconstructions."""

    discriminator: Float[Tensor, ""]
    """The discriminator's hinge loss with its regulariser."""
    generator: Float[Tensor, ""]
    trust: Float[Tensor, ""]
    """How well the discriminator tells real from fake here: from 0, not at all, to 1, by the hinge's margin."""


class Adversary(nn.Module):
    """The discriminator, its hinge loss, and the running means of logits for LeCam."""

    mean_real: Tensor
    mean_fake: Tensor

    def __init__(self, bands: int, lecam: float, channels: int, decay: float = 0.99) -> None:
        super().__init__()
        self.discriminator = Discriminator(bands, channels)
        self.lecam, self.decay = lecam, decay
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_fake", torch.zeros(()))

    def forward(self, real: Float[Tensor, "b c h w"], fake: Float[Tensor, "b c h w"]) -> Adversarial:
        """The losses of both sides, and the trust: an untrained discriminator's gradient would ruin reconstructions.

        Real and fake tiles go through apart, so the generator's gradient runs backwards through the fake ones alone.
        """
        logits_real, logits_fake = self.discriminator(real), self.discriminator(fake)
        with torch.no_grad():
            self.mean_real.lerp_(logits_real.mean(), 1 - self.decay)
            self.mean_fake.lerp_(logits_fake.mean(), 1 - self.decay)
        regulariser = lecam(logits_real, logits_fake, self.mean_real, self.mean_fake)
        mistaken = hinge(logits_real, logits_fake)
        trust = (1 - mistaken.detach()).clamp(min=0)
        return Adversarial(mistaken + self.lecam * regulariser, -logits_fake.mean(), trust)


def hinge(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """The discriminator's hinge loss (arXiv:1705.02894): 1 if it cannot tell real from fake, 0 if it always can."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def lecam(real: Tensor, fake: Tensor, mean_real: Tensor, mean_fake: Tensor) -> Float[Tensor, ""]:
    """Mean squares of real logits above the running mean of fake ones, and of fake logits below that of real ones."""
    return F.relu(real - mean_fake).square().mean() + F.relu(mean_real - fake).square().mean()


class Reconstruction(nn.Module):
    """L1 plus the weighted perceptual distance.

    Small tiles are enlarged for the network, so that it sees structure. Then only the first few of the batch are
    compared: enlarged, they have no more pixels than the batch, so the cost stays.

    Args:
        weight: of the perceptual distance.
        network: of the perceptual distance; with None it is ``structure_distance``.
    """

    def __init__(self, weight: float, network: FeatureNetwork | None) -> None:
        super().__init__()
        self.weight, self.network = weight, network

    def forward(
        self, reconstructed: Float[Tensor, "b c h w"], tiles: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The loss, and its terms before weighting."""
        pixel = F.l1_loss(reconstructed, tiles)
        if self.network is None:
            perceptual = structure_distance(reconstructed, tiles)
        else:
            groups = band_groups(tiles.shape[1])
            bands = groups[int(torch.randint(len(groups), ()))]
            few = math.ceil(len(tiles) * min(1.0, min(tiles.shape[-2:]) / SEEN_AT_PX) ** 2)
            seen, wanted = (enlarged(some[:few, bands]) for some in (reconstructed, tiles))
            perceptual = feature_map_distance(self.network, seen, wanted)
        return pixel + self.weight * perceptual, {"l1": pixel.detach(), "perceptual": perceptual.detach()}


class PixelGradient(NamedTuple):
    """The gradient of the whole reconstruction loss with respect to the reconstructed pixels."""

    gradient: Float[Tensor, "b c h w"]
    adaptive: Float[Tensor, ""]
    """The adaptive weight of the adversary, before the recipe's."""


def adversarial_gradient(
    reconstructed: Float[Tensor, "b c h w"],
    gradient: Float[Tensor, "b c h w"],
    adversarial: Float[Tensor, "b c h w"],
    last_layer: Tensor,
    weight: float | Float[Tensor, ""],
) -> PixelGradient:
    """Join the gradients of both losses with the adaptive weight |∇ reconstruction| / (|∇ adversarial| + 1e-4) (eq. 7).

    The norms are those at the decoder's last layer. Both losses reach it through the pixels. So each is run backwards
    to the pixels once, and only the step from there to the last layer is taken twice. The value is that of the paper's
    code, which runs the feature network and the discriminator backwards a second time.

    Args:
        reconstructed: with its graph.
        gradient, adversarial: of each loss with respect to ``reconstructed``.
        last_layer: weights of the decoder's last layer.
        weight: of the adversarial loss, before the adaptive factor.
    """
    norms = [
        torch.autograd.grad(reconstructed, last_layer, grad_outputs=g, retain_graph=True)[0].norm()
        for g in (gradient, adversarial)
    ]
    adaptive = (norms[0] / (norms[1] + 1e-4)).clamp(max=ADAPTIVE_MOST)
    return PixelGradient(gradient + weight * adaptive * adversarial, adaptive)
