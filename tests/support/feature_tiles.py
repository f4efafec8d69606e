"""Tiles of noise, and a small feature network to compare them with."""

import torch
from torch import Tensor, nn

from gcl_custom.measures.feature_networks import FeatureNetwork


def tiles(seed: int, bands: int = 3, side: int = 32) -> Tensor:
    return torch.rand(2, bands, side, side, generator=torch.Generator().manual_seed(seed))


def network() -> FeatureNetwork:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 3, stride=2), nn.Conv2d(5, 6, 3)]
    return FeatureNetwork("small", stages, [0.4] * 3, [0.2] * 3, compared=2)
