import numpy as np
import pytest

from gcl_custom.imagery.places.nearness import nearness
from gcl_custom.imagery.places.on_ground import DEGREE_KM


def test_shares_and_median_of_distances_that_are_known() -> None:
    """On the equator, 2, 3 and 9 km from the only training tile; the validation tile does not count."""
    east = np.array([0.0, 2, -3, 9, 1.9, np.nan]) / DEGREE_KM
    places = np.column_stack([east, np.where(np.isnan(east), np.nan, 0)])
    found = nearness(places, np.array([0, 2, 2, 2, 1, 2]), 3.5)
    assert found is not None
    assert (found.tiles, found.within) == (3, pytest.approx(2 / 3))
    assert found.median_km == pytest.approx(3)
    assert found.sentence() == (
        "Of 3 test tiles 67% lie within 3.5 km of a training tile; the median distance is 3 km."
    )


def test_without_places_nothing_is_said() -> None:
    assert nearness(None, np.array([0, 2]), 1.0) is None
    assert nearness(np.array([[0.0, 0.0], [np.nan, np.nan]]), np.array([0, 2]), 1.0) is None
