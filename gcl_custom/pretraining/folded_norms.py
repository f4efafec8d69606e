"""Batch norms with fixed statistics, folded into the convolutions before them: the same function in less time.

    norm(convolve(x, weight)) = convolve(x, weight * scale) + shift
    scale = gamma / sqrt(variance + eps)      shift = beta - mean * scale

Parameters, their names and their gradients stay those of the network as it was, so its optimizer and its files do not
notice. What is saved are passes over the maps, forward and backward.
"""

import torch
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from gcl_custom.pretraining import layers
from gcl_custom.pretraining.small_maps import SmallDepthwiseConv2d, SmallMapConv2d
from gcl_custom.slow_in_bf16 import DepthwiseConv2d, DepthwiseConv2dSame

Norm = nn.modules.batchnorm._BatchNorm


class _Folding(nn.Conv2d):
    """A convolution whose weight and bias, as its forward pass reads them, hold those of the norm after it.

    The state dict and ``parameters()`` have the weight alone, as it was.
    """

    norm_after: tuple[Norm]  # in a tuple, so that the norm does not become a part of the convolution

    @property
    def _scale(self) -> Float[Tensor, " c"]:
        (norm,) = self.norm_after
        assert norm.running_var is not None
        return norm.weight * torch.rsqrt(norm.running_var + norm.eps)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        own = self._parameters["weight"]
        assert own is not None
        return own * self._scale[:, None, None, None]

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        (norm,) = self.norm_after
        assert norm.running_mean is not None
        return norm.bias - norm.running_mean * self._scale


class _FoldedNorm(nn.BatchNorm2d):
    """A norm that was done by the convolution before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _FoldedNormAct(BatchNormAct2d):
    """The same for timm's norm with an activation, which is left."""

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(x))
        return activated


PLAIN = (nn.Conv2d, Conv2dSame, SmallMapConv2d, DepthwiseConv2d, DepthwiseConv2dSame, SmallDepthwiseConv2d)
CONVOLUTIONS: dict[type[nn.Module], type[nn.Module]] = {
    kind: type(f"_Folding{kind.__name__}", (_Folding, kind), {}) for kind in PLAIN
}
NORMS: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: _FoldedNorm, BatchNormAct2d: _FoldedNormAct}


def fold_norms(network: nn.Module, bands: int, size: int) -> int:
    """Fold every norm that directly follows a convolution, if the network stays the same function.

    A network in which something else reads the convolution too, as where residuals branch off before the norm, would
    be another function. It is left as it is, which is found by comparing what it says of a few tiles of noise.

    Args:
        network: its norms must keep their statistics from now on.
        bands, size: of the tiles.

    Returns:
        The number of folded norms.
    """
    tiles = torch.rand(2, bands, size, size, generator=torch.Generator().manual_seed(0))
    tiles = tiles.to(next(network.parameters()).device)
    with layers.at_rest(network):
        before, pairs = _followed(network, tiles)
        for convolution, norm in pairs:
            _fold(convolution, norm)
        after = network(tiles)
        if torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
            return len(pairs)
        for convolution, norm in pairs:
            _unfold(convolution, norm)
    return 0


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    convolution.__class__, norm.__class__ = CONVOLUTIONS[type(convolution)], NORMS[type(norm)]
    convolution.norm_after = (norm,)  # type: ignore[assignment]


def _unfold(convolution: nn.Module, norm: nn.Module) -> None:
    for module, kinds in ((convolution, CONVOLUTIONS), (norm, NORMS)):
        module.__class__ = next(plain for plain, folded in kinds.items() if folded is type(module))
    del convolution.norm_after


def _followed(network: nn.Module, tiles: Float[Tensor, "b c h w"]) -> tuple[Tensor, list[tuple[nn.Module, nn.Module]]]:
    """What the network says of tiles, and the convolutions whose output is what a norm is given, each used once."""
    made: dict[int, nn.Module] = {}
    held: list[Tensor] = []  # so that no two outputs have the same identity
    pairs: list[tuple[nn.Module, nn.Module]] = []
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        if type(module) in CONVOLUTIONS:
            made[id(output)] = module
            held.append(output)
        elif (convolution := made.get(id(given[0]))) is not None:
            pairs.append((convolution, module))

    suitable = [module for module in network.modules() if _suits(module)]
    hooks = [module.register_forward_hook(after) for module in suitable]
    try:
        said: Tensor = network(tiles)
    finally:
        for hook in hooks:
            hook.remove()
    return said, [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _suits(module: nn.Module) -> bool:
    if type(module) in NORMS:
        assert isinstance(module, Norm)
        return module.affine and module.track_running_stats
    return type(module) in CONVOLUTIONS and getattr(module, "bias", None) is None
