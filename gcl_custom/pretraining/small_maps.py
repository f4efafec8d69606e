"""Convolutions that are faster on small maps."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from gcl_custom.slow_in_bf16 import DepthwiseConv2d, is_depthwise


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is one matrix product when it trains on a CPU and its output has at most 4 by 4 pixels.

    On such small maps oneDNN's convolutions take up to 5 times as long (512 channels, 2 by 2 pixels, batch 128, bf16).
    The deep layers of a ResNet have them when tiles have 64 px or less. Outside of training it is an ordinary
    convolution, so an exported network does not depend on the size of a tile.
    """

    LARGEST = 4

    @staticmethod
    def suits(convolution: nn.Conv2d) -> bool:
        """Whether the convolution has one group, no bias, no dilation, and zeros around the map."""
        plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.bias is None
        padded = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
        return plain and padded and convolution.kernel_size != (1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _ _"]:
        if self.training and x.device.type == "cpu":
            (above, beside), (height, width) = (int(padding) for padding in self.padding), x.shape[2:]
            numbers = torch.arange((height + 2 * above) * (width + 2 * beside)).view(height + 2 * above, -1)
            (tall, wide), (down, right) = self.kernel_size, self.stride
            windows = numbers.unfold(0, tall, down).unfold(1, wide, right)
            if max(windows.shape[:2]) <= self.LARGEST:
                pixels = nn.functional.pad(x, (beside, beside, above, above))
                return self._by_product(rearrange(pixels, "b c h w -> b (h w) c"), windows)
        return super().forward(x)

    def _by_product(self, pixels: Float[Tensor, "b n c"], windows: Int[Tensor, "h w k l"]) -> Float[Tensor, "b d h w"]:
        """A matrix whose rows are the windows of pixels, times the kernels."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else pixels.dtype
        seen = pixels.to(dtype).index_select(1, windows.flatten())
        rows = rearrange(seen, "b (places taps) c -> b places (taps c)", taps=windows[0, 0].numel())
        kernels = rearrange(self.weight.to(dtype), "d c k l -> d (k l c)")
        bias = None if self.bias is None else self.bias.to(dtype)
        return rearrange(nn.functional.linear(rows, kernels, bias), "b (h w) d -> b d h w", h=len(windows))


class FewTapsConv2d(nn.Conv2d):
    """A depthwise convolution that, on a map smaller than its kernel reaches, leaves out the taps that only meet zeros.

    On 2 by 2 pixels a kernel of 5 by 5 is one of 3 by 3, which takes a third of the time.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        reach = self.kernel_size[0] // 2
        needed = max(x.shape[2:]) - 1
        if not self.training or needed >= reach:
            return super().forward(x)
        kernels = self.weight[:, :, reach - needed : reach + needed + 1, reach - needed : reach + needed + 1]
        return nn.functional.conv2d(x, kernels, self.bias, padding=needed, groups=self.groups)


class SmallDepthwiseConv2d(DepthwiseConv2d, FewTapsConv2d):
    """A depthwise convolution that leaves such taps out and trains in fp32 on a CPU."""

    @staticmethod
    def suits(convolution: nn.Conv2d) -> bool:
        """Whether each channel has a square kernel of odd size of its own, and the map keeps its size."""
        side = convolution.kernel_size[0]
        own = is_depthwise(convolution) and convolution.in_channels == convolution.out_channels
        steady = convolution.stride == convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
        return own and steady and convolution.kernel_size == (side, side) and convolution.padding == (side // 2,) * 2
