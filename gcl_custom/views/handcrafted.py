"""Handcrafted augmentations of whole batches. Every parameter is drawn for each tile.

The suite is that of VICReg (arXiv:2105.04906, appendix C.1), with torchvision's definitions of each operation:
random resized crop, flips and turns, colour jitter, greyscale, Gaussian blur, solarisation, in this order.
Departures: brightness, contrast, saturation and hue always follow in this order, where torchvision shuffles them; a
blur is cut off at three times the largest standard deviation, which is in pixels of the view.

If the bands are not red, green and blue, each band's gain and offset are jittered instead of the colours, and one band
is dropped instead of greyscale.
"""

import math
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gcl_custom.randomness import Randomness
from gcl_custom.recipe.pretraining import HandcraftedSettings, PretrainSettings, Step
from gcl_custom.views import pixel_operations as op
from gcl_custom.views.pixel_operations import Tiles

STEPS: tuple[str, ...] = get_args(Step)


def handcrafted(
    tiles: Tiles, settings: HandcraftedSettings, view: int, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    """A handcrafted view of each tile.

    Args:
        tiles: in [0, 1].
        view: place in the pair, 0 or 1. Blur and solarisation have a probability for each.
        size: side of the view in pixels.
        rgb: the bands are red, green and blue.
    """
    return _augment(tiles, STEPS, settings, view, size, rgb, rng)


def paired(
    tiles: Tiles, steps: Sequence[str], settings: HandcraftedSettings, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    """A generative view after the pairing: the given steps alone, as in the second handcrafted view.

    Without "crop" the whole tile is resized to ``size``.
    """
    return _augment(tiles, steps, settings, 1, size, rgb, rng)


def small_crop(
    tiles: Tiles, settings: PretrainSettings, number: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c s s"]:
    """A small crop of each tile, as ``settings.small_crops`` says. The rest is the handcrafted suite's.

    Args:
        number: of the small crop, from 0.
    """
    small = settings.small_crops
    change = {"crop": small.area, "blur": (small.blur, small.blur), "solarise": (0.0, 0.0)}
    return _augment(tiles, STEPS, settings.handcrafted.model_copy(update=change), 2 + number, small.size, rgb, rng)


def _augment(
    tiles: Tiles, steps: Sequence[str], settings: HandcraftedSettings, view: int, size: int, rgb: bool, rng: Randomness
) -> Float[Tensor, "b c {size} {size}"]:
    def uniform(step: str, *shape: int) -> Tensor:
        return rng.uniform(f"view {view}, {step}", *shape)

    def drawn(step: str, probability: float) -> Bool[Tensor, " b"]:
        """The tiles that get a step. Nothing is drawn for a step with probability 0."""
        if step not in steps or not probability:
            return torch.zeros(len(tiles), dtype=torch.bool, device=rng.tiles.device)
        return uniform(step) < probability

    rgb = rgb and tiles.shape[1] == 3
    with torch.autocast(tiles.device.type, enabled=False):
        height, width = tiles.shape[-2:]
        whole = torch.tensor([0, 0, height, width]).expand(len(tiles), 4)
        boxes = op.crops(uniform("crop", op.ATTEMPTS, 4), height, width, settings.crop) if "crop" in steps else whole
        turned = drawn("turn", settings.turn)
        turns = torch.where(turned, (uniform("turn by") * 4).long(), 0)
        flips, vertical_flips = drawn("flip", settings.flip), drawn("vertical_flip", settings.vertical_flip)
        views = op.frame(tiles, size, boxes, flips, vertical_flips, turns)

        jittered = drawn("jitter", settings.jitter)
        if rgb:
            amounts = (settings.brightness, settings.contrast, settings.saturation)
            factors = [_around(1.0, amount, uniform(f"factor {i}")) for i, amount in enumerate(amounts)]
            _change(views, jittered, op.jitter, *factors, _around(0.0, settings.hue, uniform("hue")))
            _change(views, drawn("grey", settings.grey), op.greyscale)
        else:
            bands = tiles.shape[1]
            gain = _around(1.0, settings.contrast, uniform("gain", bands))
            offset = _around(0.0, settings.brightness, uniform("offset", bands))
            _change(views, jittered, op.jitter_bands, gain, offset)
            if bands > 1:
                _change(views, drawn("grey", settings.grey), op.drop_band, (uniform("band") * bands).long())
        low, high = settings.blur_sigma
        sigma = low + (high - low) * uniform("sigma")
        radius = min(math.ceil(3 * high), size - 1)
        place = min(view, 1)  # small crops have one probability for both
        _change(views, drawn("blur", settings.blur[place]), lambda some, s: op.blur(some, s, radius), sigma)
        _change(views, drawn("solarise", settings.solarise[place]), op.solarise)
    return views


def _around(middle: float, amount: float, uniform: Tensor) -> Tensor:
    return middle + amount * (2 * uniform - 1)


def _change(views: Tiles, chosen: Bool[Tensor, " b"], change: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Change the chosen tiles in place. Parameters have an entry for each tile of the batch."""
    index = chosen.nonzero().squeeze(1)
    if len(index):
        there = index.to(views.device)
        views[there] = change(views[there], *(parameter[index].to(views.device) for parameter in parameters))
