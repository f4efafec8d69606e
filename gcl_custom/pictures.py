"""Pictures for a reader: grids of tiles, written as PNG; the colours of classes."""

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from gcl_custom.files import write_bytes

OKABE_ITO = (
    *((0.84, 0.82, 0.76), (0.0, 0.45, 0.7), (0.9, 0.6, 0.0), (0.0, 0.62, 0.45), (0.8, 0.47, 0.65)),
    *((0.84, 0.37, 0.0), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26)),
)
"""Colours of classes: a light grey for the first, which is mostly the ground, then seven of Okabe and Ito's."""


class Quicklook(NamedTuple):
    """How a picture shows unit tiles with any number of bands."""

    bands: list[int]
    """The places of those shown as red, green and blue, or of the one in grey."""
    low: list[float]
    """The unit value of each that is black."""
    high: list[float]
    """The unit value of each at which it is brightest."""

    def of(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        """The colours of unit tiles, in [0, 1]."""
        low, high = (torch.tensor(edges)[:, None, None] for edges in (self.low, self.high))
        shown = ((tiles.float().cpu()[:, self.bands] - low) / (high - low)).clamp(0, 1)
        return shown.expand(-1, 3, -1, -1)


GAP = 2
"""Pixels of white around each tile of a grid."""
COLOURS = Quicklook([0, 1, 2], [0.0] * 3, [1.0] * 3)
"""Of tiles that are colours already."""


def grid(rows: Sequence[Float[Tensor, "_ c h w"]], quicklook: Quicklook = COLOURS) -> Float[Tensor, "3 H W"]:
    """A picture with one row for each batch of unit tiles, white between them. The last batch may be shorter."""
    coloured = torch.cat([quicklook.of(row) for row in rows])
    framed = F.pad(coloured, (0, GAP, 0, GAP), value=1.0)
    white = framed.new_ones(-len(framed) % len(rows[0]), *framed.shape[1:])
    tiled = rearrange(torch.cat([framed, white]), "(y x) c h w -> c (y h) (x w)", x=len(rows[0]))
    return F.pad(tiled, (GAP, 0, GAP, 0), value=1.0)


def save_picture(path: Path, picture: Float[Tensor, "3 h w"]) -> None:
    """Write an RGB picture in [0, 1] as PNG, atomically."""
    write_bytes(path, png(picture))


def png(picture: Float[Tensor, "3 h w"]) -> bytes:
    """The bytes of an RGB picture in [0, 1] as PNG."""
    file = io.BytesIO()
    _image(picture).save(file, "PNG")
    return file.getvalue()


def _image(picture: Float[Tensor, "3 h w"]) -> Image.Image:
    pixels = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy())


def class_colours(classes: int) -> Float[Tensor, "classes 3"]:
    """A colour for each class: those of Okabe and Ito, then further hues."""
    hues = (colorsys.hsv_to_rgb(number / 17 % 1, 0.7, 0.8) for number in range(classes))
    return torch.tensor([*OKABE_ITO, *hues][:classes])
