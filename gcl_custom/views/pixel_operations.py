"""The pixel operations of handcrafted augmentations: one function each, every parameter given for each tile.

    b  tiles     c  bands     h w  pixels     values in [0, 1]

Nothing is drawn here. Colour steps need red, green and blue; all others take any number of bands. Whatever is linear
along rows and columns becomes two small matrices a tile, one for rows and one for columns: an antialiased crop with its
resize, flips and turns is one pair, a blur another. That is exact, equal on every device, and on a CPU faster than
sampling a grid.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601, as torchvision rounds them)."""
ASPECTS = (3 / 4, 4 / 3)
ATTEMPTS = 10
"""Boxes drawn for a random resized crop. The first that lies within the tile counts."""
SOLARISE_FROM = 0.5

Tiles = Float[Tensor, "b c h w"]
Rgb = Float[Tensor, "b 3 h w"]
PerTile = Float[Tensor, " b"]


# ---------------------------------------------------------------- geometry


def crops(
    uniform: Float[Tensor, "b attempts 4"], height: int, width: int, area: tuple[float, float]
) -> Int[Tensor, "b 4"]:
    """Boxes (top, left, height, width) of random resized crops, as torchvision draws them.

    Args:
        uniform: area, aspect, top and left of each attempt. The first box that lies within the tile counts; if there
            is none, the whole tile does.
        area: smallest and largest share of the tile's area.
    """
    areas = (area[0] + (area[1] - area[0]) * uniform[..., 0]) * (height * width)
    low, high = math.log(ASPECTS[0]), math.log(ASPECTS[1])
    aspects = torch.exp(low + (high - low) * uniform[..., 1])
    widths, heights = torch.sqrt(areas * aspects).round(), torch.sqrt(areas / aspects).round()
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    tops = (uniform[..., 2] * (height - heights + 1)).floor()
    lefts = (uniform[..., 3] * (width - widths + 1)).floor()
    boxes = torch.stack([tops, lefts, heights, widths], dim=-1).long()
    first = fits.int().argmax(dim=1)
    chosen = boxes[torch.arange(len(boxes), device=boxes.device), first]
    whole = torch.tensor([0, 0, height, width], device=boxes.device)
    return torch.where(fits.any(dim=1)[:, None], chosen, whole)


def frame(
    tiles: Tiles,
    size: int,
    boxes: Int[Tensor, "b 4"],
    flips: Bool[Tensor, " b"],
    vertical_flips: Bool[Tensor, " b"],
    turns: Int[Tensor, " b"],
) -> Float[Tensor, "b c {size} {size}"]:
    """Crop to a box (top, left, height, width), resize bilinearly with antialiasing, flip, then turn.

    Args:
        flips: left to right. vertical_flips: upside down.
        turns: counter-clockwise turns by a right angle, as torch.rot90.
    """
    top, left, height, width = boxes.unbind(dim=1)
    # A turn by k is a transposition where k is odd, after these reversals.
    reverse_rows = vertical_flips ^ (turns == 2) ^ (turns == 3)
    reverse_columns = flips ^ (turns == 1) ^ (turns == 2)
    rows = resizing(top, height, tiles.shape[-2], size, reverse_rows).to(tiles.device)
    columns = resizing(left, width, tiles.shape[-1], size, reverse_columns).to(tiles.device)
    views = _separable(tiles, rows, columns)
    odd = (turns % 2 == 1).nonzero().squeeze(1).to(tiles.device)
    views[odd] = views[odd].transpose(-2, -1)
    return views


def resizing(
    start: Int[Tensor, " b"], length: Int[Tensor, " b"], source: int, size: int, reverse: Bool[Tensor, " b"]
) -> Float[Tensor, "b {size} {source}"]:
    """Matrices that resize the pixels start ... start + length of a line of ``source`` pixels to ``size``.

    Bilinear. When shrinking, the triangle is as wide as a target pixel (torch's antialias=True).
    """
    scale = (length / size)[:, None, None]
    width = scale.clamp(min=1)
    place = torch.arange(size, device=start.device)[:, None]
    place = torch.where(reverse[:, None, None], size - 1 - place, place)
    centre = start[:, None, None] + (place + 0.5) * scale
    pixel = torch.arange(source, device=start.device)
    weights = (1 - ((pixel + 0.5 - centre) / width).abs()).clamp(min=0)
    inside = (pixel >= start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weights = weights * inside
    return weights / weights.sum(dim=-1, keepdim=True)


def _separable(
    tiles: Tiles, rows: Float[Tensor, "b height h"], columns: Float[Tensor, "b width w"]
) -> Float[Tensor, "b c height width"]:
    # Band by band: a product that broadcasts rows over bands would copy them first.
    narrow = torch.bmm(rearrange(tiles, "b c h w -> b (c h) w"), columns.mT)
    bands = rearrange(narrow, "b (c h) width -> c b h width", c=tiles.shape[1])
    return torch.stack([torch.bmm(rows, band) for band in bands], dim=1)


# ---------------------------------------------------------------- colour


def jitter(tiles: Rgb, brightness: PerTile, contrast: PerTile, saturation: PerTile, hue: PerTile) -> Rgb:
    """Brightness, contrast and saturation by factors, then hue by a share of the circle."""
    tiles = (tiles * _wide(brightness)).clamp_(0, 1)
    mean = reduce(grey_value(tiles), "b 1 h w -> b 1 1 1", "mean")
    tiles = tiles.mul_(_wide(contrast)).add_(mean * (1 - _wide(contrast))).clamp_(0, 1)
    grey = grey_value(tiles)
    tiles = tiles.mul_(_wide(saturation)).add_(grey * (1 - _wide(saturation))).clamp_(0, 1)
    return rotate_hue(tiles, hue)


def rotate_hue(tiles: Rgb, by: PerTile) -> Rgb:
    """Turn the hue of HSV by a share of the circle; value and saturation stay."""
    red, green, blue = tiles.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # In sixths of the circle. The last line is for red as the greatest; greys count as red, since they have no hue.
    sixths = torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    sixths = torch.where(value == red, green - blue, sixths).div_(chroma.clamp(min=1e-12))
    turned = sixths.div_(6).add_(1 + by[:, None, None])
    # Each band lies below the value by the chroma times a trapezium over the hue.
    bands = []
    for band in (5, 3, 1):
        k = (turned + band / 6).frac_().mul_(6)
        bands.append(value - torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma))
    return torch.stack(bands, dim=1)


def greyscale(tiles: Rgb) -> Rgb:
    """Replace each band by the grey value."""
    return grey_value(tiles).expand_as(tiles)


def grey_value(tiles: Rgb) -> Float[Tensor, "b 1 h w"]:
    red, green, blue = tiles.tensor_split(3, dim=1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def jitter_bands(tiles: Tiles, gain: Float[Tensor, "b c"], offset: Float[Tensor, "b c"]) -> Tiles:
    """Scale each band about its mean over the tile by the gain, and move the mean by a share of itself."""
    mean = reduce(tiles, "b c h w -> b c 1 1", "mean")
    gain, offset = gain[:, :, None, None], offset[:, :, None, None]
    return (tiles * gain + mean * (1 + offset - gain)).clamp_(0, 1)


def drop_band(tiles: Tiles, band: Int[Tensor, " b"]) -> Tiles:
    """Replace one band by its mean over the tile: its content goes, its level stays."""
    dropped = torch.arange(tiles.shape[1], device=tiles.device) == band[:, None]
    return torch.where(dropped[:, :, None, None], reduce(tiles, "b c h w -> b c 1 1", "mean"), tiles)


def solarise(tiles: Tiles) -> Tiles:
    """Invert every value from half upwards."""
    return torch.where(tiles >= SOLARISE_FROM, 1 - tiles, tiles)


# ---------------------------------------------------------------- blur


def blur(tiles: Tiles, sigma: PerTile, radius: int) -> Tiles:
    """Gaussian blur with a standard deviation in pixels, cut off at ``radius`` pixels; borders are reflected."""
    offsets = torch.arange(-radius, radius + 1, device=tiles.device)
    exponents = -0.5 * (offsets / sigma[:, None]) ** 2
    # A small sigma would leave denormal numbers, which slow a product of matrices down many times.
    kernel = torch.softmax(exponents.masked_fill(exponents < -30, -torch.inf), dim=1)
    rows, columns = (_convolution(kernel, length) for length in tiles.shape[-2:])
    return _separable(tiles, rows, columns)


def _convolution(kernel: Float[Tensor, "b taps"], length: int) -> Float[Tensor, "b {length} {length}"]:
    """Matrices that convolve a line of pixels, reflected at its ends."""
    radius = kernel.shape[1] // 2
    place = torch.arange(length, device=kernel.device)
    source = (place[:, None] + torch.arange(-radius, radius + 1, device=kernel.device)).abs()
    source = torch.where(source >= length, 2 * (length - 1) - source, source)
    taps = F.one_hot(source, length).to(kernel.dtype)
    return einsum(kernel, taps, "b t, i t j -> b i j")


def _wide(factor: PerTile) -> Float[Tensor, "b 1 1 1"]:
    return factor[:, None, None, None]
