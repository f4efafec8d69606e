"""Features of pixels that need no network: floors under the scores of masks.

    b  tiles     c  bands     h w  pixels     d  numbers of a pixel

For some classes they are hard to beat. Water is darker in near infrared than in green: with these bands, a linear
function of a pixel's values is a threshold of the difference that the usual water index is made from.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

RADII = (1, 3, 7)
"""Pixels from the middle to the edge of the squares around a pixel."""


class PixelFeatures(nn.Module):
    """The values of each pixel, then mean and standard deviation of each band in squares around it.

    Squares end at the tile's edge. As a network for probes of pixels, it gives one map as large as the tile.

    Args:
        radii: of the squares, from the middle to the edge in pixels; with none, the values alone.
    """

    def __init__(self, radii: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.radii = radii

    def forward(self, tiles: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b d h w"]]:
        with torch.autocast(tiles.device.type, enabled=False):
            x = tiles.float()
            parts = [x]
            for radius in self.radii:
                mean = _mean(x, radius)
                parts += [mean, (_mean(x.square(), radius) - mean.square()).clamp(min=0).sqrt()]
            return [torch.cat(parts, dim=1)]


def _mean(x: Float[Tensor, "b c h w"], radius: int) -> Float[Tensor, "b c h w"]:
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
