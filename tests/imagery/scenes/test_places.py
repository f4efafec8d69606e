import io

import numpy as np
import pytest
import rasterio
from PIL import Image

from gcl_custom.imagery.decoding import reading
from gcl_custom.imagery.scenes.places import place_of
from gcl_custom.imagery.source import Window

SITE = 'LOCAL_CS["site",LOCAL_DATUM["x",0],UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'


def geotiff(crs: str | None, place: tuple[float, ...]) -> bytes:
    """A GeoTIFF of 40 x 20 pixels."""
    with reading(), rasterio.MemoryFile() as memory:
        about = {"driver": "GTiff", "width": 40, "height": 20, "count": 1, "dtype": "uint8"}
        with memory.open(**about, crs=crs, transform=rasterio.Affine(*place)) as file:
            file.write(np.ones((1, 20, 40), np.uint8))
        return bytes(memory.read())


def test_a_place_is_that_of_the_centre_also_of_a_turned_raster() -> None:
    place = place_of(geotiff("EPSG:4326", (0.01, 0, 10, 0, -0.02, 50)))
    assert place is not None
    assert place[:2] == pytest.approx((10.2, 49.8))
    assert (place.longitude, place.latitude) == pytest.approx((10.2, 49.8))
    assert place.crs == "EPSG:4326"
    turned = place_of(geotiff("EPSG:4326", (0, 0.02, 10, 0.01, 0, 50)))
    assert turned is not None
    assert turned[:2] == pytest.approx((10.2, 50.2))


def test_the_place_of_a_window_is_its_own_centre() -> None:
    plain, turned = (0.01, 0, 10, 0, -0.02, 50), (0, 0.02, 10, 0.01, 0, 50)
    window = Window(column=20, row=4, width=10, height=8)
    assert place_of(geotiff("EPSG:4326", plain), window)[:2] == pytest.approx((10.25, 49.84))
    assert place_of(geotiff("EPSG:4326", turned), window)[:2] == pytest.approx((10.16, 50.25))
    whole = Window(0, 0, 40, 20)
    assert place_of(geotiff("EPSG:4326", plain), whole) == place_of(geotiff("EPSG:4326", plain))


def test_what_lies_nowhere_on_earth_has_no_longitude() -> None:
    building = place_of(geotiff(SITE, (1, 0, 100, 0, -1, 200)))
    assert building is not None
    assert building[:2] == (120, 190)
    assert (building.longitude, building.latitude) == (None, None)
    far = place_of(geotiff("EPSG:32633", (1, 0, 1e9, 0, -1, 1e9)))
    assert far is not None
    assert far.longitude is None
    with reading():
        assert place_of(geotiff(None, (1, 0, 0, 0, 1, 0))) is None
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    assert place_of(buffer.getvalue()) is None
