"""Scenes on other machines: opened by GDAL where the recipe names their addresses, and nowhere else.

What is asked for over the network is kept by no cache, so a scene that is opened again is asked for again: this tells a
lost connection from a damaged file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import rasterio
from rasterio.errors import RasterioError

from gcl_custom.errors import UserError
from gcl_custom.imagery.scenes.opening import ALONE, NoScene
from gcl_custom.recipe.imagery import ScenesSettings, is_address

RETRY_SECONDS = 1
"""Before the first new attempt. Each further pause is longer."""
JPEG_2000 = (".jp2", ".j2k")


class Remote(NamedTuple):
    """A scene at an address."""

    address: str
    timeout_seconds: float
    retries: int

    def beside(self, ending: str) -> "Remote":
        """The file whose name has this end in place of the scene's suffix."""
        folder, _, name = self.address.rpartition("/")
        return self._replace(address=f"{folder}/{name.rpartition('.')[0]}{ending}")

    def lost(self, error: RasterioError) -> UserError:
        """What to tell the user where it cannot be read."""
        return UserError(
            f"data.scenes.remote: {self.address} cannot be read ({error.__cause__ or error}). Check the address and "
            f"the connection, and start again: what was read is kept. Or take the address out of the list, or allow "
            f"more time and attempts (data.scenes.remote.timeout_seconds, data.scenes.remote.retries)"
        )

    def require_there(self) -> None:
        """Ask for the scene again.

        Raises:
            UserError: there is no answer, so what could not be read was lost on the way.
        """
        try:
            with opened_remote(self):
                pass
        except RasterioError as error:
            raise self.lost(error) from None


def located(root: Path, path: str, scenes: ScenesSettings | None) -> Path | Remote:
    """Where a scene lies: below the root, or at an address that the recipe names."""
    if scenes and scenes.remote and is_address(path):
        return Remote(path, scenes.remote.timeout_seconds, scenes.remote.retries)
    return root / path


@contextmanager
def opened_remote(scene: Remote) -> Iterator[rasterio.DatasetReader]:
    """Open a scene at its address, by one driver. Only what is asked for is fetched.

    Raises:
        NoScene: what is there is no raster.
        rasterio.errors.RasterioError: it cannot be fetched, or is damaged.
    """
    driver = "JP2OpenJPEG" if scene.address.lower().endswith(JPEG_2000) else "GTiff"
    options = {
        **ALONE,
        "GDAL_HTTP_TIMEOUT": str(scene.timeout_seconds),
        "GDAL_HTTP_CONNECTTIMEOUT": str(scene.timeout_seconds),
        "GDAL_HTTP_MAX_RETRY": str(scene.retries),
        "GDAL_HTTP_RETRY_DELAY": str(RETRY_SECONDS),
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/",
    }
    with rasterio.Env(**options):
        try:
            dataset = rasterio.open(
                _of_gdal(scene.address), driver=driver, sharing=False, GEOREF_SOURCES="INTERNAL"
            )  # fmt: skip
        except RasterioError as error:
            if "not recognized as being in a supported file format" in str(error):
                raise NoScene("no raster", f"{scene.address} is no GeoTIFF or JPEG 2000, as its name says") from None
            raise
        with dataset:
            yield dataset


def _of_gdal(address: str) -> str:
    """The address as GDAL writes it."""
    if address.startswith("/vsi"):
        return address
    return f"/vsis3/{address.removeprefix('s3://')}" if address.startswith("s3://") else f"/vsicurl/{address}"
