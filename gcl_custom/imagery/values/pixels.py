"""Decoded pixels: which of them hold data, which bands make a tile, and what stands where there is no data.

c  bands     h w  pixels of a file     s  side of a tile
"""

import numpy as np
from jaxtyping import Bool, Real, Shaped

from gcl_custom.imagery.values.forms import (
    MOST,
    READ,
    Form,
    Picture,
    Unusable,
    is_no_measurement,
    require_count,
    unread,
)


def without_missing(
    pixels: Real[np.ndarray, "c h w"], masks: Bool[np.ndarray, "c h w"], alpha: bool, fill: float | None = None
) -> Picture:
    """A picture whose values without data are 0: those that are masked, and of floats all that are not finite.

    float64 becomes float32.

    Args:
        fill: further value without data. One that may be a measurement counts where all bands have it.
    """
    dtype = READ[pixels.dtype.name]
    if fill is not None:
        held = pixels != fill
        masks = masks & (held if is_no_measurement(fill, dtype) else held.any(axis=0))
    if pixels.dtype.kind == "f":
        masks = masks & (np.abs(pixels) < MOST)  # false of NaN, too
    if masks.all():
        return Picture(pixels.astype(dtype, copy=False), None, alpha)
    valid = np.asarray(masks.any(axis=0))
    alike = bool((masks == valid).all())
    pixels = np.where(masks, pixels, pixels.dtype.type(0)).astype(dtype, copy=False)
    return Picture(pixels, None if valid.all() else valid, alpha, None if alike else masks)


def without_fill(picture: Picture, form: Form | None) -> Picture:
    """A picture of which the values that the recipe calls no data are masked, too."""
    if form is None or form.fill is None:
        return picture
    valid = np.ones(picture.pixels.shape[1:], dtype=bool) if picture.valid is None else picture.valid
    masks = np.broadcast_to(valid, picture.pixels.shape)
    return without_missing(picture.pixels, masks, picture.alpha, form.fill)


def chosen(pixels: Real[np.ndarray, "_c h w"], form: Form | None) -> Real[np.ndarray, "c h w"]:
    """The bands that make a tile, of all bands of a file.

    Raises:
        Unusable: bands are chosen, and there are more or fewer than the choice is from.
    """
    if form is None or form.choice is None:
        return pixels
    require_count(len(pixels), form.choice.of)
    return pixels[[number - 1 for number in form.choice.numbers]]


def picture_of(pixels: Real[np.ndarray, "_c h w"], form: Form | None) -> Picture:
    """The picture of all bands of a file, without a mask of its own."""
    pixels = np.ascontiguousarray(chosen(pixels, form))
    masks = np.ones(pixels.shape, dtype=bool)
    return without_missing(pixels, masks, alpha=False, fill=form.fill if form else None)


def from_array(pixels: Shaped[np.ndarray, "..."], form: Form) -> Picture:
    """The picture in an array (h w), (h w c) or (c h w) with the bands of a file.

    Raises:
        Unusable: it has another shape or type.
    """
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and pixels.shape[-1] in (1, form.of_file):
        pixels = pixels.transpose(2, 0, 1)
    if pixels.ndim != 3:
        raise Unusable("shape", f"{pixels.shape}; only (h w), (h w c) and (c h w) are read")
    if pixels.dtype.name not in READ:
        raise unread(pixels.dtype.name)
    return picture_of(pixels, form)
