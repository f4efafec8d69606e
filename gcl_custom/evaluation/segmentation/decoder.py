"""A light decoder: the maps of a backbone to a class for each pixel.

Each map is brought to one width by a linear layer, and to the side of the finest map by bilinear interpolation. Their
sum goes through one convolution. This is the decoder of SegFormer (arXiv:2105.15203, section 3.2), but for the sum in
place of a concatenation and for the convolution, as in Panoptic FPN (arXiv:1901.02446, section 3). Group normalisation
serves small batches. The decoder has some 0.1 million parameters, so most of what is trained is the backbone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTH = 64
GROUPS = 8


class Decoder(nn.Module):
    """Maps, from the finest to the last, to logits on the pixels of the finest.

    Args:
        channels: of each map.
    """

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.inward = nn.ModuleList(nn.Conv2d(each, WIDTH, 1) for each in channels)
        self.fuse = nn.Sequential(
            nn.GroupNorm(GROUPS, WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, WIDTH),
            nn.ReLU(),
        )
        self.outward = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b classes h w"]:
        size = max((one.shape[-2:] for one in maps), key=lambda shape: shape[0])
        parts = [
            F.interpolate(inward(one), size=size, mode="bilinear")
            for inward, one in zip(self.inward, maps, strict=True)
        ]
        logits: Tensor = self.outward(self.fuse(torch.stack(parts).sum(0)))
        return logits
