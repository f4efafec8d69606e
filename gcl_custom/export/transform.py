"""From a file, a picture or an array to the input of a run's backbone, one at a time.

c  bands     h w  pixels of the picture     s  side of a tile
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor

from gcl_custom.errors import UserError
from gcl_custom.imagery.decoding import Form, Picture, Unusable, decode, picture_from, reading, tile_of
from gcl_custom.imagery.tile_store import TileStore, scaled, tensor_of
from gcl_custom.imagery.values.pixels import from_array
from gcl_custom.recipe.imagery import DataSettings


@dataclass(frozen=True)
class Transform:
    """Turns one file, picture or array into the input of a backbone, as the run's own tiles were made.

    It holds numbers only and pickles, so a ``torch.utils.data.DataLoader`` may call it in its processes.

    Attributes:
        form: bands and type of the run's tiles.
        size: side of a tile in pixels.
        upscale: whether pictures smaller than that are enlarged.
        nodata: share of pixels without data above which a file is refused.
        low, high: values of each band that become 0 and 1.
    """

    form: Form
    size: int
    upscale: bool
    nodata: float
    low: Float[Tensor, " c"]
    high: Float[Tensor, " c"]

    @classmethod
    def of(cls, store: TileStore, data: DataSettings) -> "Transform":
        """The transform that made the tiles of a store."""
        return cls(store.form, store.size, data.upscale, data.nodata, store.low, store.high)

    def __call__(
        self, given: str | os.PathLike[str] | Image.Image | Shaped[np.ndarray, "..."]
    ) -> Float[Tensor, "c s s"]:
        """The input of the network, in [0, 1].

        Args:
            given: the path of a file; a Pillow image; or an array (h w), (h w c) or (c h w) of a type that is read,
                with all bands of a file of the run. An array that fits both of the last two is read as (h w c).

        Raises:
            UserError: the file is missing or damaged, or the picture has other bands, another type or too few
                pixels.
        """
        try:
            with reading():
                picture = self._picture(given)
                tile = tile_of(picture, self.form, self.size, self.upscale, self.nodata)
        except Unusable as problem:
            what = given if isinstance(given, str | os.PathLike) else f"this {type(given).__name__}"
            raise UserError(f"{what} cannot be used: {problem}") from None
        return scaled(tensor_of(tile.pixels), self.low, self.high)

    def _picture(self, given: str | os.PathLike[str] | Image.Image | Shaped[np.ndarray, "..."]) -> Picture:
        if isinstance(given, np.ndarray):
            return from_array(given, self.form)
        if isinstance(given, Image.Image):
            # Pillow cannot convert 16 bits to RGB, so these modes are taken as arrays.
            return from_array(np.asarray(given), self.form) if given.mode[0] in "IF" else picture_from(given, self.form)
        try:
            return decode(Path(given).read_bytes(), form=self.form)
        except OSError as error:
            raise Unusable("cannot be opened", str(error.strerror)) from None
