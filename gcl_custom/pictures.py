"""Pictures for a reader: grids of tiles, written as PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from gcl_custom.files import write_bytes


def grid(rows: Sequence[Float[Tensor, "b c h w"]]) -> Float[Tensor, "3 H W"]:
    """A picture with one row for each batch of unit tiles.

    It shows the first three bands, or with fewer than three the first one in grey.
    """
    tiles = [tile for row in rows for tile in row.float().cpu().clamp(0, 1)]
    coloured = torch.stack([tile[:3] if len(tile) >= 3 else tile[:1].expand(3, -1, -1) for tile in tiles])
    return make_grid(coloured, nrow=len(rows[0]), padding=2, pad_value=1.0)


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
