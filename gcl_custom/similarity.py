"""How alike tiles and their views are, tile by tile.

Shapes: b tiles, c bands, h w pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from gcl_custom.features import FeatureNetwork, band_groups, enlarged
from gcl_custom.generator.vqgan_loss import feature_map_distance


def structural_similarity(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """SSIM of tiles in [0, 1] (Wang et al. 2004, eq. 13), with a Gaussian window; in fp32 whatever the autocast."""
    with torch.autocast(a.device.type, enabled=False):  # its differences of squares drown in bf16
        similarity = structural_similarity_index_measure(a.float(), b.float(), data_range=1.0, reduction="none")
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(a))


@torch.no_grad()
def perceptual_distance(
    network: FeatureNetwork, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean over the tiles of the distance that the perceptual loss takes, averaged over the groups of three bands.

    See vqgan_loss.feature_map_distance: LPIPS but for its learned weights. Small tiles are enlarged.
    """
    a, b = enlarged(a), enlarged(b)
    distances = [feature_map_distance(network, a[:, group], b[:, group]) for group in band_groups(a.shape[1])]
    return torch.stack(distances).mean()
