"""Handcrafted augmentations of whole batches, every parameter drawn per tile.

The suite is that of VICReg (arXiv:2105.04906, appendix C.1), with torchvision's definitions of each operation:
random resized crop, flips and turns, colour jitter, greyscale, Gaussian blur, solarisation, in this order.
Departures: brightness, contrast, saturation and hue always follow in this order, where torchvision shuffles them; a
blur is cut off at three times the largest standard deviation, which is in pixels of the view.

Tiles whose bands are not red, green and blue get band-wise steps instead of the colour steps: gain and offset jittered
for each band, and the loss of one band instead of greyscale.

Everything linear is two small matrices a tile, one for the rows and one for the columns: an antialiased crop with its
resize, flips and turns is one pair, a blur another. That is exact, equal on every device, and on a CPU faster than
sampling a grid.
"""

import math
from collections.abc import Callable, Sequence

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gcl_custom import recipe
from gcl_custom.randomness import Randomness

STEPS = ("crop", "flip", "vertical_flip", "turn", "jitter", "grey", "blur", "solarise")
GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601, as torchvision rounds them)."""
ASPECTS = (3 / 4, 4 / 3)
ATTEMPTS = 10
SOLARISE_FROM = 0.5

Tiles = Float[Tensor, "b c h w"]
Rgb = Float[Tensor, "b 3 h w"]
PerTile = Float[Tensor, " b"]


# ---------------------------------------------------------------- views


def handcrafted(
    tiles: Tiles, settings: recipe.Handcrafted, view: int, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    """A handcrafted view of each tile.

    Args:
        tiles: in [0, 1].
        view: 0 or 1, the place in the pair: blur and solarisation have a probability for each.
        size: side of the view in pixels.
        rgb: the bands are red, green and blue.
    """
    return _augment(tiles, STEPS, settings, view, size, rgb, rng)


def paired(
    tiles: Tiles, steps: Sequence[str], settings: recipe.Handcrafted, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    """What follows a generative view: only the given steps, as in the second handcrafted view.

    Without "crop" the whole tile is resized to ``size``.
    """
    return _augment(tiles, steps, settings, 1, size, rgb, rng)


def small_crop(
    tiles: Tiles, settings: recipe.Pretrain, number: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c s s"]:
    """A small crop of each tile, as ``settings.small_crops`` says; its colours are the handcrafted suite's.

    Args:
        number: which of the small crops, from 0.
    """
    small = settings.small_crops
    change = {"crop": small.area, "blur": (small.blur, small.blur), "solarise": (0.0, 0.0)}
    return _augment(tiles, STEPS, settings.handcrafted.model_copy(update=change), 2 + number, small.size, rgb, rng)


def _augment(
    tiles: Tiles, steps: Sequence[str], settings: recipe.Handcrafted, view: int, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    def uniform(step: str, *shape: int) -> Tensor:
        return rng.uniform(f"view {view}, {step}", *shape)

    def drawn(step: str, probability: float) -> Bool[Tensor, " b"]:
        return uniform(step) < (probability if step in steps else 0.0)

    rgb = rgb and tiles.shape[1] == 3
    with torch.autocast(tiles.device.type, enabled=False):
        height, width = tiles.shape[-2:]
        whole = torch.tensor([0, 0, height, width]).expand(len(tiles), 4)
        boxes = crops(uniform("crop", ATTEMPTS, 4), height, width, settings.crop) if "crop" in steps else whole
        turns = torch.where(drawn("turn", settings.turn), (uniform("turn by") * 4).long(), 0)
        flips, vertical_flips = drawn("flip", settings.flip), drawn("vertical_flip", settings.vertical_flip)
        views = frame(tiles, size, boxes, flips, vertical_flips, turns)

        jittered = drawn("jitter", settings.jitter)
        if rgb:
            amounts = (settings.brightness, settings.contrast, settings.saturation)
            factors = [_around(1.0, amount, uniform(f"factor {i}")) for i, amount in enumerate(amounts)]
            _change(views, jittered, jitter, *factors, _around(0.0, settings.hue, uniform("hue")))
            _change(views, drawn("grey", settings.grey), greyscale)
        else:
            bands = tiles.shape[1]
            gain = _around(1.0, settings.contrast, uniform("gain", bands))
            offset = _around(0.0, settings.brightness, uniform("offset", bands))
            _change(views, jittered, jitter_bands, gain, offset)
            if bands > 1:
                _change(views, drawn("grey", settings.grey), drop_band, (uniform("band") * bands).long())
        low, high = settings.blur_sigma
        sigma = low + (high - low) * uniform("sigma")
        radius = min(math.ceil(3 * high), size - 1)
        place = min(view, 1)  # small crops have one probability for both
        _change(views, drawn("blur", settings.blur[place]), lambda some, s: blur(some, s, radius), sigma)
        _change(views, drawn("solarise", settings.solarise[place]), solarise)
    return views


def _around(middle: float, amount: float, uniform: Tensor) -> Tensor:
    return middle + amount * (2 * uniform - 1)


def _change(views: Tiles, chosen: Bool[Tensor, " b"], change: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Change the chosen tiles in place; parameters have an entry for each tile of the batch."""
    index = chosen.nonzero().squeeze(1)
    if len(index):
        there = index.to(views.device)
        views[there] = change(views[there], *(parameter[index].to(views.device) for parameter in parameters))


# ---------------------------------------------------------------- geometry


def crops(
    uniform: Float[Tensor, "b attempts 4"], height: int, width: int, area: tuple[float, float]
) -> Int[Tensor, "b 4"]:
    """Boxes (top, left, height, width) of random resized crops, as torchvision draws them.

    Args:
        uniform: area, aspect, top and left of each attempt; the first attempt that lies within the tile counts, and
            without one the whole tile.
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

    Bilinear, with a triangle as wide as a target pixel where that is the larger (torch's antialias=True).
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
    # Band by band, because a product that broadcasts the rows over the bands would first copy them.
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
    # In sixths of the circle; where red is the greatest, and so for greys, whose hue is of no consequence.
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
    """Each band replaced by the grey value."""
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
    """Replace one band by its mean over the tile, which takes its content but keeps the statistics of the input."""
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
    taps = torch.nn.functional.one_hot(source, length).to(kernel.dtype)
    return einsum(kernel, taps, "b t, i t j -> b i j")


def _wide(factor: PerTile) -> Float[Tensor, "b 1 1 1"]:
    return factor[:, None, None, None]
