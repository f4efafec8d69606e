"""Similarities and distances between tiles and their views.

Shapes: b tiles, c bands, h w pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gcl_custom.measures.feature_networks import FeatureNetwork, enlarged
from gcl_custom.recipe.features import band_groups

GAUSSIAN_SIGMA, GAUSSIAN_RADIUS = 1.5, 5
"""Pixels, of the window of SSIM."""


def structural_similarity(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of tiles in [0, 1] (Wang et al. 2004, eq. 13), with their Gaussian window; always in fp32.

    Edges are reflected, so that every pixel has a window; tiles need at least 6 px a side.
    """
    offsets = torch.arange(-GAUSSIAN_RADIUS, GAUSSIAN_RADIUS + 1, device=a.device)
    window = torch.softmax(-offsets.square() / (2 * GAUSSIAN_SIGMA**2), 0)

    def blurred(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        channels = maps.flatten(0, 1)[:, None]
        padded = F.pad(channels, 4 * (GAUSSIAN_RADIUS,), mode="reflect")
        return F.conv2d(F.conv2d(padded, window[None, None, None]), window[None, None, :, None]).view_as(maps)

    with torch.autocast(a.device.type, enabled=False):  # bf16 would lose the differences of squares
        return _ssim_maps(a.float(), b.float(), blurred).mean((1, 2, 3))


@torch.no_grad()
def perceptual_distance(
    network: FeatureNetwork, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """The feature map distance, averaged over tiles and over the groups of three bands. Small tiles are enlarged."""
    a, b = enlarged(a), enlarged(b)
    distances = [feature_map_distance(network, a[:, group], b[:, group]) for group in band_groups(a.shape[1])]
    return torch.stack(distances).mean()


def feature_map_distance(
    network: FeatureNetwork, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """LPIPS (arXiv:1801.03924, eq. 1) with all channel weights 1: squared distance of maps normalised over channels.

    Gradients flow to ``a`` only. The mean over the maps is taken, not their sum.
    """
    with torch.no_grad():
        targets = [F.normalize(target, dim=1) for target in network.maps(b)]
    pairs = zip(network.maps(a), targets, strict=True)
    return torch.stack([(F.normalize(m, dim=1) - target).square().sum(1).mean() for m, target in pairs]).mean()


def structure_distance(
    a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], least_px: int = 16
) -> Float[Tensor, ""]:
    """A distance without a network, for any number of bands: 1 - SSIM plus the L1 distance of gradients, over scales.

    The mean over the scales is taken. The sides are halved at most twice, and never below ``least_px``.
    """
    terms = []
    for _ in range(3):
        gradients = [F.l1_loss(a.diff(dim=axis), b.diff(dim=axis)) for axis in (-2, -1)]
        terms.append(1 - ssim(a, b) + sum(gradients))
        if min(a.shape[-2:]) < 2 * least_px:
            break
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return torch.stack(terms).mean()


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], window: int = 7) -> Float[Tensor, ""]:
    """Mean structural similarity of tiles in [0, 1] (Wang et al. 2004, eq. 13), with a uniform window."""
    return _ssim_maps(a, b, lambda maps: F.avg_pool2d(maps, window, 1)).mean()


def _ssim_maps(
    a: Float[Tensor, "b c h w"],
    b: Float[Tensor, "b c h w"],
    averaged: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b c h2 w2"]],
) -> Float[Tensor, "b c h2 w2"]:
    """The similarity within each window; ``averaged`` takes the means over windows."""
    mean_a, mean_b = averaged(a), averaged(b)
    var_a = averaged(a * a) - mean_a**2
    var_b = averaged(b * b) - mean_b**2
    covariance = averaged(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
